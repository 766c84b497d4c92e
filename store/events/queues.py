"""The queues of events that wait to be delivered, as the process reads them that delivers.

What waits survives that process, not the loss of Redis: an event that was not delivered by then is lost, and counted.
"""

import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from store.redis import keys
from store.redis.client import RedisClient
from store.redis.joined import split
from store.redis.replicated import ReplicatedReads
from store.redis.scripts import script
from store.redis.shards import Shards, as_shards

_AT_ONCE = 100
"""Entries read at once, of each queue: each has up to 64 events and 64 KiB, or is one event."""
_DROPPED = "dropped "

_DONE = script("events_done", int)
_LOST = script("events_lost", int)

USERS, OTHERS = "users", "others"
"""The queues: of presence, and of all else."""
_STREAMS = {USERS: keys.EVENTS_OF_USERS, OTHERS: keys.EVENTS}


class QueueEntry(NamedTuple):
    """Events of one kind, as the scripts wrote them. id: in its queue. shard: whose queue it is."""

    queue: str
    id: str
    kind: str
    items: list[bytes]
    shard: int = 0


class EventCounts(NamedTuple):
    """Since Redis was started empty. dropped: by kind, because too much waited. lost: with a Redis that was before.

    bytes: of those that wait. oldest: when the oldest of them was written, milliseconds; 0 if none waits. state: a
    number that no other Redis has, nor this one after a loss; 0 before somebody has given one. counted: the state whose
    loss was counted last.
    """

    written: int
    sent: int
    dropped: Mapping[str, int]
    lost: int
    bytes: int
    oldest: int
    state: int
    counted: int

    @property
    def finished(self) -> int:
        """Returns how many do not wait any more."""
        return self.sent + sum(self.dropped.values())

    @property
    def waiting(self) -> int:
        return max(0, self.written - self.finished)

    def lag_seconds(self) -> float:
        """Returns how long the oldest has waited."""
        return max(0.0, time.time() - self.oldest / 1000) if self.oldest else 0.0

    def lost_since(self, known: "EventCounts") -> int:
        """Returns how many of those that waited were lost with Redis, if it has an older state now than before."""
        return max(0, known.written - max(self.written, known.finished))


class EventQueues:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient | Shards[RedisClient], shard: int = 0, *, replicas: int = 0) -> None:
        """redis: all shards, to be counted and looked at together; or one, whose queues are delivered. shard: its
        number, or that of the first of them. replicas: that must have what waits before it is given.
        """
        self._shards = as_shards(redis)
        self._redis = self._shards.home
        self._shard = shard
        self._replicated = ReplicatedReads(self._redis, replicas)

    async def waiting(self, queue: str, after: str = "") -> list[QueueEntry]:
        """Returns entries that wait, those first that have waited longest. after: the id of one; "": from the first."""
        start = f"({after}" if after else "-"
        stream = self._redis.key(_STREAMS[queue])
        node = self._replicated.begin()
        entries = _entries(queue, await self._redis.xrange(stream, start, count=_AT_ONCE), self._shard)
        if entries:
            # Or the back end would hear of what its sender is told to send again, which gets another id then.
            await self._replicated.confirm(node)
        return entries

    async def aclose(self) -> None:
        await self._replicated.aclose()

    async def delivered(self, entries: Sequence[QueueEntry]) -> int:
        """Takes entries out of their queues; returns how many events these were, of those still in them."""
        arguments = [field for entry in entries for field in (entry.queue, entry.id)]
        return await _DONE.run(self._redis, more_arguments=arguments)

    async def counts(self) -> EventCounts:
        held: Counter[str] = Counter()
        oldest: list[Any] = []
        for redis in self._shards:
            counted: Any = await redis.hgetall(redis.key(keys.EVENT_COUNTS))
            held.update({name.decode(): int(count) for name, count in counted.items()})
            oldest += [await redis.xrange(redis.key(stream), count=1) for stream in _STREAMS.values()]
        return EventCounts(
            written=held.get("written", 0),
            sent=held.get("sent", 0),
            dropped={name.removeprefix(_DROPPED): count for name, count in held.items() if name.startswith(_DROPPED)},
            lost=held.get("lost", 0),
            bytes=held.get("bytes", 0),
            oldest=min((int(first[0][0].partition(b"-")[0]) for first in oldest if first), default=0),
            state=held.get("state", 0),
            counted=held.get("counted", 0),
        )

    async def newest(self, most: int) -> list[QueueEntry]:
        """Returns the entries that were written last, the oldest of them first."""
        found: list[QueueEntry] = []
        for shard, redis in enumerate(self._shards, self._shard):
            for queue, stream in _STREAMS.items():
                newest: Any = await redis.xrevrange(redis.key(stream), count=most)
                found += _entries(queue, newest[::-1], shard)
        return sorted(found, key=lambda entry: [int(part) for part in entry.id.split("-")])[-most:]

    async def begin(self) -> None:
        """Gives the counts a state, if they have none."""
        await self._redis.hsetnx(self._redis.key(keys.EVENT_COUNTS), "state", str(_new_state()))

    async def count_lost(self, events: int, state: int) -> bool:
        """Counts events that were lost with the Redis that had this state, unless another process has done so: then it
        returns False.
        """
        counted = await _LOST.run(self._redis, state=str(state), new_state=str(_new_state()), lost=events)
        return bool(counted)

    async def stop(self, url: str) -> None:
        """Remembers that this receiver wants no more. url: a digest of it."""
        stopped: dict[str | bytes, str | int] = {"url": url, "at": time.time_ns() // 1_000_000}
        await self._redis.hset(self._redis.key(keys.EVENTS_STOPPED), mapping=stopped)  # type: ignore[arg-type]

    async def stopped(self, url: str) -> bool:
        """Returns whether this receiver wants no more, of any shard."""
        said: list[Any] = [await redis.hget(redis.key(keys.EVENTS_STOPPED), "url") for redis in self._shards]
        return url.encode() in said

    async def resume(self) -> bool:
        """Forgets that a receiver wants no more; returns whether one did."""
        return any([await redis.delete(redis.key(keys.EVENTS_STOPPED)) for redis in self._shards])


def _new_state() -> int:
    return secrets.randbits(48) + 1


def _entries(queue: str, items: Any, shard: int) -> list[QueueEntry]:
    return [QueueEntry(queue, id_.decode(), fields[b"k"].decode(), split(fields[b"d"]), shard) for id_, fields in items]
