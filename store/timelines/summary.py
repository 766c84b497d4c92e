"""Counts what one user's timelines hold, without reading them."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from store.addresses import GLOBAL
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards, as_shards
from store.timelines.spans import spans

_AT_ONCE = 100
"""Users one script call looks at."""
_NEWEST = script("newest", list[bytes])


class InboxSummary(NamedTuple):
    """messages: how many lie in it. oldest, newest: their ids, None if there are none."""

    messages: int
    oldest: int | None
    newest: int | None


class Timelines:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient | Shards[RedisClient], *, window_us: int) -> None:
        self._shards = as_shards(redis)
        self._window_us = window_us

    async def inbox(self, uid: int) -> InboxSummary:
        edge = time.time_ns() // 1000 - self._window_us
        redis = self._shards.of(uid)
        inboxes = [redis.key(keys.inbox(uid, each)) for each in self._spans()]
        pipeline = redis.pipeline(transaction=False)
        for inbox in inboxes:
            pipeline.zcount(inbox, edge, "+inf")
        counts = await _replies(pipeline)
        written = [inbox for inbox, count in zip(inboxes, counts, strict=True) if count]
        if not written:
            return InboxSummary(0, None, None)
        pipeline.zrange(written[0], edge, "+inf", byscore=True, offset=0, num=1)
        pipeline.zrange(written[-1], -1, -1)
        (oldest,), (newest,) = await _replies(pipeline)
        return InboxSummary(sum(counts), int(oldest), int(newest))

    async def channels(self, uid: int) -> list[str]:
        """Returns the names of the channels the user reads now."""
        return (await self.channels_of([uid]))[0]

    async def channels_of(self, uids: Sequence[int]) -> list[list[str]]:
        """Returns `channels` of each of these users, in one round trip to each shard."""
        found: dict[int, list[str]] = {}
        for redis, theirs in self._shards.parts(uids, int):
            found |= zip(theirs, await self._channels_in(redis, theirs), strict=True)
        return [found[uid] for uid in uids]

    async def head(self, uid: int) -> int:
        """Returns the id of the newest message in what the user reads, visible or not, or the id from which on Redis
        has their inbox; 0 if there is none."""
        return (await self.heads([uid]))[uid]

    async def heads(self, uids: Sequence[int]) -> dict[int, int]:
        """Returns `head` of each of these users, in three round trips to each shard. A pull reaches it at once: it is
        not above the id up to which the user's shard has everything.
        """
        found: dict[int, int] = {}
        for redis, theirs in self._shards.parts(uids, int):
            found |= await self._heads_in(redis, theirs)
        return found

    async def _channels_in(self, redis: RedisClient, uids: Sequence[int]) -> list[list[str]]:
        pipeline = redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.hgetall(redis.key(keys.channel_map(uid)))
        return [
            [GLOBAL.channel, *(name.decode() for name, intervals in held.items() if intervals.endswith(b":"))]
            for held in await _replies(pipeline)
        ]

    async def _heads_in(self, redis: RedisClient, uids: Sequence[int]) -> dict[int, int]:
        read = await self._channels_in(redis, uids)
        channels = sorted({name for names in read for name in names})
        pipeline = redis.pipeline(transaction=False)
        pipeline.hmget(redis.key(keys.HEADS), channels)
        pipeline.hmget(redis.key(keys.DORMANT), [str(uid) for uid in uids])
        heads, active_since = await _replies(pipeline)
        newest = await self._newest_in_inboxes(redis, uids)
        ids = {name: int(head or 0) for name, head in zip(channels, heads, strict=True)}
        return {
            uid: max(inbox, int(since or 0), *(ids[name] for name in names))
            for uid, names, since, inbox in zip(uids, read, active_since, newest, strict=True)
        }

    async def _newest_in_inboxes(self, redis: RedisClient, uids: Sequence[int]) -> list[int]:
        looked_at = self._spans()
        bounds: dict[str, Any] = {"first_span": looked_at[0], "last_span": looked_at[-1]}
        parts = [uids[start : start + _AT_ONCE] for start in range(0, len(uids), _AT_ONCE)]
        calls = [_NEWEST.call(more_arguments=part, **bounds) for part in parts]
        return [int(newest) for reply in await _NEWEST.run_each(redis, calls) for newest in reply]

    def _spans(self) -> range:
        """Returns those of an inbox that may lie in the window. Ids may be some seconds ahead of this clock."""
        now = time.time_ns() // 1000
        return spans(now - self._window_us, now + 60_000_000)


async def _replies(pipeline: Any) -> list[Any]:
    replies: list[Any] = await pipeline.execute()
    return replies
