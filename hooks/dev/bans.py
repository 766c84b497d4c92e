"""The ban list of the embedded broker: it holds to those of usernames and clientids, as long as it runs."""

import time
from typing import NamedTuple

KINDS = ("username", "clientid")


class Banned(NamedTuple):
    """at, until: seconds; until is infinite for one without end."""

    kind: str
    who: str
    by: str
    reason: str
    at: int
    until: float


class BanList:
    """The list of banned clients, which EMQX asks before it authenticates one."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Banned] = {}

    def put(self, banned: Banned) -> Banned | None:
        """Adds one; returns the one that is in its way, which changes nothing, as in EMQX."""
        held = self.find(banned.kind, banned.who)
        if held is None:
            self._kept[banned.kind, banned.who] = banned
        return held

    def find(self, kind: str, who: str) -> Banned | None:
        held = self._kept.get((kind, who))
        return held if held is not None and held.until > time.time() else None

    def end(self, kind: str, who: str) -> bool:
        """Returns whether there was one."""
        return self._kept.pop((kind, who), None) is not None

    def all(self) -> list[Banned]:
        return [each for each in self._kept.values() if each.until > time.time()]

    def refuses(self, username: str, clientid: str) -> bool:
        """Returns whether a login is refused. clientid: as the broker has made it."""
        return self.find("clientid", clientid) is not None or self.find("username", username) is not None
