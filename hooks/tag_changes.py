"""Changes of tags and their holders, by users and operators: the store's, and what this process remembers of them."""

from collections.abc import Sequence

from redis.asyncio import Redis

from hooks.remembered import Remembered
from hooks.topics import TAG_COMMANDS, Tag
from store.tag_replacement import Replacement
from store.tags import HoldersChanged, Tags


class TagChanges:
    """Its calls raise GroupRefused, StoreError."""

    def __init__(self, redis: Redis, tags: Tags, remembered: Remembered) -> None:
        self._redis = redis
        self._tags = tags
        self._remembered = remembered

    async def put(self, tag: str, *, title: str, followable: bool) -> None:
        await self._tags.put(tag, title=title, followable=followable)

    async def delete(self, tag: str) -> None:
        await self._tags.delete(tag)
        self._remembered.forget(Tag(tag))

    async def command(self, tag: str, uid: int, name: str, command_id: str) -> HoldersChanged:
        """What a user asks for: one of TAG_COMMANDS."""
        assert name in TAG_COMMANDS
        if name == "follow":
            changed = await self._tags.follow(tag, uid, command_id=command_id)
            self._remembered.members(Tag(tag), [uid])
        else:
            changed = await self._tags.unfollow(tag, uid, command_id=command_id)
            self._remembered.strangers(Tag(tag), [uid])
        return changed

    async def change(self, tag: str, source: str, add: Sequence[int], remove: Sequence[int]) -> HoldersChanged:
        """What operators say. Nobody comes twice."""
        changed = await self._tags.change(tag, source, add=add, remove=remove)
        self._remembered.members(Tag(tag), add)
        self._remembered.strangers(Tag(tag), remove)
        return changed

    def replacement(self, tag: str) -> Replacement:
        """To put a new set of profile holders into."""
        self._remembered.forget(Tag(tag))
        return Replacement(self._redis, self._tags, tag)
