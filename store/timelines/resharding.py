"""Moves the store to another number of shards, while nothing else works on it.

Nearly every user gets another shard then, so nothing is carried from shard to shard but when users were seen. What the
archive has, which is everything once the outbox is archived, is dropped from Redis and put back by a rebuild, as it
would be into an empty Redis. The home stays where it is, and keeps what the archive does not have: marks that recognise
repeats, changes of permissions, dead letters, events, and its clock.

From the moment at which anything is moved or dropped a mark in the home says so, and no process starts. An interrupted
run is completed by the next one; what it has done is done. Once the mark is gone it is a rebuild like any other.
"""

from collections.abc import Callable
from typing import Any

from store.archive.archive import Archive
from store.archive.archiver import Archiver
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import Lease, rebuilding
from store.redis.shards import Shards, shard_among
from store.timelines.layout import layout_of, require_known, scan

_AT_ONCE = 1000

_RESTORED_PREFIXES = (
    *(keys.INBOX_PREFIX, keys.CHANNEL_PREFIX, keys.BODIES_PREFIX, keys.CHANNEL_MAP_PREFIX),
    *(keys.GROUP_PREFIX, keys.MEMBERS_PREFIX, keys.KICKED_PREFIX, keys.HERE_PREFIX, keys.GROUP_SHARDS_PREFIX),
    *(keys.MUTES_PREFIX, keys.TAG_PREFIX, keys.HOLDERS_PREFIX, keys.FORMER_PREFIX),
    *(keys.STATES_PREFIX, keys.BLOCKS_PREFIX, keys.BAN_PREFIX),
    *(keys.DEVICES_PREFIX, keys.BITMAP_PREFIX, keys.LINK_PREFIX),
)
"""How the names of keys begin that a rebuild puts back, or the comparison of presence with the broker."""
_RESTORED = frozenset(
    {
        *(keys.HEADS, keys.REPLACING, keys.DORMANT, keys.UNSEEN, keys.TAGS, keys.BANS, keys.BANS_CHANGED),
        *(keys.PRESENCE, keys.BITMAPS, keys.RECONCILED, keys.WINDOW),
    }
)


class CannotReshard(Exception):
    """Something has to be done first; the message says what."""


class Resharder:
    """Its calls raise CannotReshard, StoreAway, ArchiveAway."""

    def __init__(
        self, old: Shards[RedisClient], new: Shards[RedisClient], archive: Archive, archiver: Archiver
    ) -> None:
        """old, new: the same home, with the other shards there are and there are to be. archiver: carries the home's
        outbox into this archive."""
        self._old = old
        self._new = new
        self._home = new.home
        self._archive = archive
        self._archiver = archiver

    async def prepare(self, progress: Callable[[str], object] = lambda text: None) -> None:
        """Leaves a store of the new number of shards that is to be rebuilt. progress: is told what is being done."""
        lease = rebuilding(self._home)
        async with lease.held() as held:
            if not held:
                raise CannotReshard("another process is rebuilding; try again when it has ended")
            await self._require_settled()
            for redis in self._old:
                await redis.delete(redis.key(keys.EPOCH))
            progress("archiving what waits")
            await self._archiver.archive_all(lease.keep)
            await self._home.set(keys.RESHARDING, f"{self._old.count} {self._new.count}")
            await self._move_seen(lease, progress)
            await self._drop(lease, progress)
            await self._archive.set_shards(self._new.count)
            await self._switch()

    async def _require_settled(self) -> None:
        layout: Any = await self._home.get(keys.LAYOUT)
        require_known(layout)
        propagating: set[bytes] = set()
        for redis in self._old:
            some: Any = await redis.hkeys(redis.key(keys.PROPAGATING))
            propagating.update(some)
        if propagating:
            names = ", ".join(sorted(name.decode() for name in propagating))
            raise CannotReshard(f"the holders of {names} are still being changed: start the service until that is done")

        for shard in self._old.others:
            redis = self._old[shard]
            waiting: list[Any] = [await redis.xlen(redis.key(name)) for name in (keys.EVENTS, keys.EVENTS_OF_USERS)]
            if sum(waiting):
                raise CannotReshard(
                    f"{sum(waiting)} batches of events wait in shard {shard}: start the service to deliver them"
                )

    async def _move_seen(self, lease: Lease, progress: Callable[[str], object]) -> None:
        """Moves when users were seen to their new shards."""
        moved = 0
        for redis in self._old:
            async for some in _seen(redis):
                parts: dict[int, dict[Any, float]] = {}
                for uid, at in some:
                    parts.setdefault(shard_among(int(uid), self._new.count), {})[uid] = at
                for shard, seen in parts.items():
                    to = self._new[shard]
                    if to.prefix != redis.prefix:
                        await to.zadd(to.key(keys.SEEN), seen, gt=True)
                        await redis.zrem(redis.key(keys.SEEN), *seen)
                        moved += len(seen)
                progress(f"moving when users were seen: {moved}")
                await lease.keep()

    async def _drop(self, lease: Lease, progress: Callable[[str], object]) -> None:
        """Drops what the rebuild puts back: in other shards than the home all but when users were seen."""
        dropped = 0
        for redis in {each.prefix: each for each in (*self._old, *self._new)}.values():
            async for found in scan(redis, redis.prefix):
                if redis.prefix == keys.PREFIX:
                    outdated = [key for key in found if key in _RESTORED or key.startswith(_RESTORED_PREFIXES)]
                else:
                    outdated = [key for key in found if key != redis.key(keys.SEEN)]
                if outdated:
                    await redis.unlink(*outdated)
                dropped += len(outdated)
                progress(f"dropping what is put back: {dropped}")
                await lease.keep()

    async def _switch(self) -> None:
        pipeline = self._home.pipeline()
        pipeline.set(keys.LAYOUT, layout_of(self._new.count))
        pipeline.set(keys.SHARDS, self._new.count)
        pipeline.delete(keys.RESHARDING)
        await pipeline.execute()


async def _seen(redis: RedisClient) -> Any:
    """Yields users and when they were seen, some at a time."""
    cursor = 0
    while True:
        cursor, some = await redis.zscan(redis.key(keys.SEEN), cursor, count=_AT_ONCE)
        yield some
        if not cursor:
            return
