"""Write diffusion: appends that wait together are written together.

While script calls are in flight, arrivals queue, and the next call takes as many as wait. There are two lanes, so that
this process prepares one batch while Redis writes the other. The queue is bounded in entries and bytes; a full one
refuses at once.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from store import keys
from store.destinations import destinations
from store.errors import EntryFailed, Overloaded, StoreAway, StoreError
from store.record import encode_tail
from store.scripts import script

_QUEUED_ENTRIES = 20_000
_QUEUED_BYTES = 64 * 1024 * 1024
_BATCH_ENTRIES = 512
_BATCH_BYTES = 4 * 1024 * 1024
_SMALLEST_SPLIT = 8

LANES = 2

MESSAGE = b"message"
"""The outbox kind of a stored message."""


class Stored(NamedTuple):
    """mid: the message's id, microseconds. repeated: it was there before, and keeps its first id."""

    mid: int
    repeated: bool


class Entry(NamedTuple):
    """One message on its way: where it goes, and its record without the id."""

    repeat_key: bytes
    timelines: tuple[bytes, ...]
    channel: str
    tail: bytes

    @property
    def weight(self) -> int:
        """Bytes this entry writes into Redis."""
        return len(self.tail) * (len(self.timelines) + 1) + 256


class Appender:
    """Appends to timelines, through one Redis client a lane. `stop` lets it finish what was accepted.

    highest_id: of those it was given; a store whose clock is below it has lost them.
    """

    def __init__(
        self,
        lanes: Sequence[Redis],
        *,
        window_us: int,
        repeat_seconds: int,
        outbox_limit: int,
        sync_sender: bool = True,
        replicas: int = 0,
        on_batch: Callable[[int], object] | None = None,
    ) -> None:
        self._lanes = lanes
        self._settings = (window_us, repeat_seconds, outbox_limit)
        self._sync_sender = sync_sender
        self._replicas = replicas
        self._on_batch = on_batch
        self._script = script("append")
        self._queue: list[tuple[Entry, asyncio.Future[Stored]]] = []
        self._queued_bytes = 0
        self._in_flight = 0
        self.highest_id = 0
        self._arrived = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._write_batches(redis), name="append") for redis in self._lanes]

    async def stop(self) -> None:
        self._stopping = True
        self._arrived.set()
        await asyncio.gather(*self._tasks)

    def append(
        self, topic: str, sender: str, client_id: str, ts: int, json: bool, payload: bytes
    ) -> asyncio.Future[Stored]:
        """A message into the timelines of its topic. Raises Overloaded; the future, what else the store can refuse."""
        timelines, channel = destinations(topic, sender, sync_sender=self._sync_sender)
        tail = encode_tail(topic, sender, client_id, ts, json, payload)
        return self._submit(Entry(keys.repeat(sender, topic, client_id), timelines, channel, tail))

    def _submit(self, entry: Entry) -> asyncio.Future[Stored]:
        if self._stopping or len(self._queue) >= _QUEUED_ENTRIES or self._queued_bytes >= _QUEUED_BYTES:
            raise Overloaded("the queue for Redis is full" if not self._stopping else "shutting down")
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._queue.append((entry, answer))
        self._queued_bytes += entry.weight
        self._arrived.set()
        return answer

    async def _write_batches(self, redis: Redis) -> None:
        while True:
            await self._arrived.wait()
            if not self._queue:
                if self._stopping:
                    return
                self._arrived.clear()
                continue
            batch = self._take()
            self._in_flight += len(batch)
            try:
                replies = await self._write(redis, [entry for entry, _ in batch])
            except StoreError as error:
                # What queued behind a call that failed would only wait for the next one to fail.
                for _, answer in [*batch, *self._take_all()]:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            finally:
                self._in_flight -= len(batch)
            for (_, answer), reply in zip(batch, replies, strict=True):
                if answer.done():
                    continue
                if isinstance(reply, int):
                    answer.set_result(Stored(abs(reply), reply < 0))
                    self.highest_id = max(self.highest_id, reply)
                else:
                    answer.set_exception(EntryFailed(reply.decode()))
            if self._on_batch is not None:
                self._on_batch(len(batch))

    def _take(self) -> list[tuple[Entry, asyncio.Future[Stored]]]:
        """The next batch off the queue: at least one, and about half of all that is under way, for the other lane."""
        half = (len(self._queue) + self._in_flight + 1) // 2
        most = min(_BATCH_ENTRIES, max(_SMALLEST_SPLIT, half))
        if len(self._queue) <= most and self._queued_bytes <= _BATCH_BYTES:
            return self._take_all()
        size, count = 0, 0
        for entry, _ in self._queue[:most]:
            if count and size + entry.weight > _BATCH_BYTES:
                break
            size += entry.weight
            count += 1
        batch = self._queue[:count]
        del self._queue[:count]
        self._queued_bytes -= size
        return batch

    def _take_all(self) -> list[tuple[Entry, asyncio.Future[Stored]]]:
        batch = self._queue
        self._queue = []
        self._queued_bytes = 0
        return batch

    async def _write(self, redis: Redis, entries: list[Entry]) -> list[Any]:
        names = [
            *(keys.EPOCH, keys.CLOCK, keys.OUTBOX, keys.OUTBOX_BYTES),
            *(keys.HEADS, keys.NEWS, keys.ASLEEP, keys.INBOX),
        ]
        arguments: list[Any] = [time.time_ns() // 1000, *self._settings, self.highest_id]
        for entry in entries:
            names.append(entry.repeat_key)
            names.extend(entry.timelines)
            arguments += (len(entry.timelines), entry.channel, MESSAGE, entry.tail)
        replies: list[Any] = await self._script.run(redis, names, arguments)
        if self._replicas:
            await self._wait_for_replicas(redis)
        return replies

    async def _wait_for_replicas(self, redis: Redis) -> None:
        """WAIT counts for the connection it comes on, and a lane has only one."""
        try:
            reached = await redis.execute_command("WAIT", self._replicas, 1000)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise StoreAway(f"WAIT: {error}") from error
        if reached < self._replicas:
            raise StoreAway(f"{reached} of {self._replicas} replicas have the batch")
