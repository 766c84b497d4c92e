"""Changes tags and their holders, for users and operators: in the store, and in this process's memory."""

from collections.abc import Callable, Sequence

from hooks.messaging.member_cache import MemberCache
from store.addresses import Tag
from store.tags.replacement import Replacement
from store.tags.tags import HoldersChanged, Tags

_AT_ONCE = 500
"""Users of each list that one call to Redis changes, because everybody else waits for it."""


class TagChanges:
    """Its calls raise ChannelRefused, StoreError."""

    def __init__(self, tags: Tags, replacement: Callable[[str], Replacement], member_cache: MemberCache) -> None:
        """replacement: begins a new set of a tag's profile holders."""
        self._tags = tags
        self._replacement = replacement
        self._member_cache = member_cache

    async def put(self, tag: str, *, title: str, followable: bool) -> None:
        await self._tags.put(tag, title=title, followable=followable)

    async def delete(self, tag: str) -> None:
        await self._tags.delete(tag)
        self._member_cache.forget(Tag(tag))

    async def command(self, tag: str, uid: int, name: str, command_id: str, received_at: int | None) -> HoldersChanged:
        """Carries out `follow` or `unfollow`. received_at: by the broker; None if no budget judges it."""
        if name == "follow":
            changed = await self._tags.follow(tag, uid, command_id=command_id, received_at=received_at)
            self._member_cache.members(Tag(tag), [uid])
        else:
            changed = await self._tags.unfollow(tag, uid, command_id=command_id, received_at=received_at)
            self._member_cache.strangers(Tag(tag), [uid])
        return changed

    async def change(self, tag: str, source: str, add: Sequence[int], remove: Sequence[int]) -> tuple[int, int]:
        """Carries out operators' changes; returns how many users got the tag by this source, and how many lost it."""
        added, removed = 0, 0
        for start in range(0, max(len(add), len(remove), 1), _AT_ONCE):
            given, taken = add[start : start + _AT_ONCE], remove[start : start + _AT_ONCE]
            changed = await self._tags.change(tag, source, add=given, remove=taken)
            added, removed = added + changed.added, removed + changed.removed
            self._member_cache.members(Tag(tag), given)
            self._member_cache.strangers(Tag(tag), taken)
        return added, removed

    def replacement(self, tag: str) -> Replacement:
        """Begins a new set of profile holders."""
        self._member_cache.forget(Tag(tag))
        return self._replacement(tag)
