"""Defines what operators did, and whom they banned, as rows and as entries of the outbox."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

AUDIT_SECONDS = 90 * 86400
"""How long what operators did is kept."""


class BanRow(NamedTuple):
    """The ban of one user. until: milliseconds, 0 if somebody ended it. changed: id."""

    uid: int
    until: int
    changed: int
    reason: str


class AuditRow(NamedTuple):
    """One call. name: as given at the login, unproved; "" with the token alone. path: method and path.

    detail: JSON.
    """

    id: int
    name: str
    address: str
    path: str
    status: int
    detail: str


class OperatorTables(Protocol):
    """Rows may come in any order, and more than once: of a user the newest counts."""

    async def store_bans(self, rows: Sequence[BanRow]) -> None:
        """Raises ArchiveAway, ArchiveRefused."""

    async def bans(self, after: int, now: int, limit: int) -> list[BanRow]:
        """Returns those above a uid that last longer than `now` (milliseconds), by uid. Raises ArchiveAway."""

    async def newest_ban(self, highest: int) -> int:
        """Returns the id of the last change up to an id; 0 if there is none. Raises ArchiveAway."""

    async def store_audit(self, rows: Sequence[AuditRow]) -> None:
        """Raises ArchiveAway, ArchiveRefused."""

    async def audit(self, before: int, limit: int, path: str = "") -> list[AuditRow]:
        """Returns the newest below an id, of one path or of all, newest first. Raises ArchiveAway."""

    async def drop_audit(self, before: int) -> int:
        """Drops rows below an id; returns how many. Raises ArchiveAway."""


def decode_ban(data: bytes) -> BanRow:
    """Reads `uid\\nuntil\\nchanged\\nreason`. Raises ValueError."""
    uid, until, changed, reason = data.decode().split("\n", 3)
    return BanRow(int(uid), int(until), int(changed), reason)


def decode_audit(data: bytes) -> AuditRow:
    """Reads `id\\nname\\naddress\\npath\\nstatus\\ndetail`. Raises ValueError."""
    id_, name, address, path, status, detail = data.decode().split("\n", 5)
    return AuditRow(int(id_), name, address, path, int(status), detail)
