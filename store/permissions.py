"""Whose permission at the broker changed: a durable list of work, written by the scripts that change memberships."""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from store import keys
from store.scripts import script
from store.work import WorkList

_WORKERS = "permissions"


class Permission(NamedTuple):
    """granted: the user may subscribe to the topic and publish to it now; else he may no longer."""

    id: bytes
    uid: int
    topic: str
    granted: bool


class PermissionWork:
    """What one worker reads. Entries given to it are its own until they are `done`, or it was silent for `idle` s."""

    def __init__(self, redis: Redis, *, idle: float = 30.0) -> None:
        self._redis = redis
        self._list = WorkList(redis, keys.PERMISSIONS, _WORKERS, idle=idle)
        self._group_end = script("group_end")

    async def read(self, limit: int) -> list[Permission]:
        """Up to `limit` entries in order: unfinished ones, those another worker left, else new.

        Waits a second for new ones. Raises StoreError.
        """
        permissions = []
        for id_, fields in await self._list.read(limit):
            if b"e" in fields:
                await self._end_memberships(int(fields[b"e"]))
                await self._remove([id_])
            else:
                permissions.append(Permission(id_, int(fields[b"u"]), fields[b"t"].decode(), fields[b"g"] == b"1"))
        return permissions

    def read_again(self) -> None:
        """What was read and is not done comes again."""
        self._list.read_again()

    async def done(self, entries: Sequence[Permission]) -> None:
        """Takes entries off the list. Raises StoreAway."""
        await self._remove([entry.id for entry in entries])

    async def leave(self) -> None:
        """Ends this worker; what it has not finished goes to another. Raises StoreAway."""
        await self._list.leave()

    async def _end_memberships(self, gid: int) -> None:
        """Ends those of a dismissed group that had too many for one call; each becomes an entry of this list."""
        names = [
            *(keys.EPOCH, keys.CLOCK, keys.OUTBOX, keys.OUTBOX_BYTES, keys.NEWS),
            *(keys.PERMISSIONS, keys.READ_GROUPS, keys.CHANNELS),
            *(keys.group(gid), keys.members(gid), keys.kicked(gid)),
        ]
        while await self._group_end.run(self._redis, names, [gid, keys.group_channel(gid)]):
            pass

    async def _remove(self, ids: Sequence[bytes]) -> None:
        if ids:
            with self._list.answers():
                pipeline = self._redis.pipeline(transaction=True)
                pipeline.xack(keys.PERMISSIONS, _WORKERS, *ids)
                pipeline.xdel(keys.PERMISSIONS, *ids)
                await pipeline.execute()
