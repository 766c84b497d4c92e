"""Whom the topics are for that not everybody may hear: members of groups, holders of tags."""

from store.addresses import Group, Tag
from store.groups.groups import Groups
from store.tags.holdings import Holdings


class Memberships:
    def __init__(self, groups: Groups, holdings: Holdings) -> None:
        self._groups = groups
        self._holdings = holdings

    async def has(self, of: Group | Tag, uid: int) -> bool | None:
        """Returns whether the user is one of them; None if there never was such a group.

        Raises StoreAway, StoreEmpty.
        """
        match of:
            case Group(gid):
                return await self._groups.is_member(gid, uid)
            case Tag(tag):
                return await self._holdings.holds(tag, uid)

    async def refusal(self, group: Group, uid: int) -> str | None:
        """Returns the code that refuses this user's messages to the group, if one does.

        Raises StoreAway, StoreEmpty.
        """
        if await self._groups.is_member(group.gid, uid):
            return None
        return "unknown_group" if await self._groups.info(group.gid) is None else "not_a_member"
