"""What one user's timelines hold, without reading them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from store.addresses import GLOBAL
from store.redis import keys
from store.redis.client import RedisClient


class InboxSummary(NamedTuple):
    """messages: how many lie in it. oldest, newest: their ids, None where there are none."""

    messages: int
    oldest: int | None
    newest: int | None


class Timelines:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def inbox(self, uid: int) -> InboxSummary:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zcard(keys.inbox(uid))
        pipeline.zrange(keys.inbox(uid), 0, 0, withscores=True)
        pipeline.zrange(keys.inbox(uid), -1, -1, withscores=True)
        messages, oldest, newest = await _replies(pipeline)
        return InboxSummary(messages, _id(oldest), _id(newest))

    async def channels(self, uid: int) -> list[str]:
        """The names of the channels the user reads now."""
        return (await self.channels_of([uid]))[0]

    async def channels_of(self, uids: Sequence[int]) -> list[list[str]]:
        """`channels` of each of these users, in one round trip."""
        pipeline = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.hgetall(keys.channel_map(uid))
        return [
            [GLOBAL.channel, *(name.decode() for name, intervals in held.items() if intervals.endswith(b":"))]
            for held in await _replies(pipeline)
        ]

    async def head(self, uid: int) -> int:
        """The id of the newest message in what the user reads, his own time or not, or of the moment from which on
        Redis has their inbox; 0 if there is none."""
        return (await self.heads([uid]))[uid]

    async def heads(self, uids: Sequence[int]) -> dict[int, int]:
        """`head` of each of these users, of whom there must be one; in two round trips."""
        read = await self.channels_of(uids)
        channels = sorted({name for names in read for name in names})
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hmget(keys.HEADS, channels)
        pipeline.hmget(keys.DORMANT, [str(uid) for uid in uids])
        for uid in uids:
            pipeline.zrange(keys.inbox(uid), -1, -1, withscores=True)
        heads, active_since, *newest = await _replies(pipeline)
        ids = {name: int(head or 0) for name, head in zip(channels, heads, strict=True)}
        return {
            uid: max(_id(entry) or 0, int(since or 0), *(ids[name] for name in names))
            for uid, names, since, entry in zip(uids, read, active_since, newest, strict=True)
        }


async def _replies(pipeline: Any) -> list[Any]:
    replies: list[Any] = await pipeline.execute()
    return replies


def _id(entries: list[tuple[bytes, float]]) -> int | None:
    return int(entries[0][1]) if entries else None
