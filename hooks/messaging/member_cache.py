"""What this process remembers of groups' members and tags' holders: the authorizer's answers while Redis is away."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar

from hooks.topics import Group, Tag

Key = TypeVar("Key")

_MAX_MEMBERS = 100_000
_MAX_GONE = 10_000


class MemberCache:
    """The members, and the dismissed groups, that it heard of last; of anybody else it knows nothing."""

    def __init__(self) -> None:
        self._members: OrderedDict[tuple[Group | Tag, int], None] = OrderedDict()
        self._gone: OrderedDict[Group, None] = OrderedDict()

    def is_member(self, of: Group | Tag, uid: int) -> bool | None:
        """None where it cannot tell."""
        if of in self._gone:
            return False
        return True if (of, uid) in self._members else None

    def members(self, of: Group | Tag, uids: Iterable[int]) -> None:
        for uid in uids:
            _keep(self._members, (of, uid), _MAX_MEMBERS)

    def strangers(self, of: Group | Tag, uids: Iterable[int]) -> None:
        for uid in uids:
            self._members.pop((of, uid), None)

    def gone(self, group: Group) -> None:
        """It was dismissed; its id is never another's."""
        _keep(self._gone, group, _MAX_GONE)

    def forget(self, tag: Tag) -> None:
        """Who holds it now is not known."""
        for member in [member for member in self._members if member[0] == tag]:
            del self._members[member]


def _keep(kept: OrderedDict[Key, None], key: Key, most: int) -> None:
    kept[key] = None
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
