"""What this process remembers of memberships: the authorizer's answers while Redis is away."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")

_MOST_MEMBERS = 100_000
_MOST_GONE = 10_000


class Remembered:
    """The members it heard of last; who is not among them is none."""

    def __init__(self) -> None:
        self._members: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._gone: OrderedDict[int, None] = OrderedDict()

    def is_member(self, gid: int, uid: int) -> bool:
        return (gid, uid) in self._members and gid not in self._gone

    def members(self, gid: int, uids: Iterable[int]) -> None:
        for uid in uids:
            _keep(self._members, (gid, uid), _MOST_MEMBERS)

    def strangers(self, gid: int, uids: Iterable[int]) -> None:
        for uid in uids:
            self._members.pop((gid, uid), None)

    def gone(self, gid: int) -> None:
        """The group was dismissed; its id is never another's."""
        _keep(self._gone, gid, _MOST_GONE)


def _keep(kept: OrderedDict[Key, None], key: Key, most: int) -> None:
    kept[key] = None
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
