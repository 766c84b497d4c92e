"""Remembers groups' members and tags' holders, to answer the authorizer while Redis is away."""

from collections.abc import Iterable

from hooks.bounded import Bounded
from store.addresses import Group, Tag

_MAX_MEMBERS = 100_000
_MAX_GONE = 10_000


class MemberCache:
    """The members, and the dismissed groups, that the process heard of last; it knows nothing of anybody else."""

    def __init__(self) -> None:
        self._members = Bounded[tuple[Group | Tag, int], None](_MAX_MEMBERS)
        self._gone = Bounded[Group, None](_MAX_GONE)

    def is_member(self, of: Group | Tag, uid: int) -> bool | None:
        """Returns whether they belong; None if it cannot tell."""
        if of in self._gone:
            return False
        return True if (of, uid) in self._members else None

    def members(self, of: Group | Tag, uids: Iterable[int]) -> None:
        for uid in uids:
            self._members[of, uid] = None

    def strangers(self, of: Group | Tag, uids: Iterable[int]) -> None:
        for uid in uids:
            self._members.pop((of, uid), None)

    def gone(self, group: Group) -> None:
        """Notes that the group was dismissed; its id is never used again."""
        self._gone[group] = None

    def forget(self, tag: Tag) -> None:
        """Forgets who holds it."""
        for member in [member for member in self._members if member[0] == tag]:
            del self._members[member]
