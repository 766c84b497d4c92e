"""Write diffusion: appends that wait together are written together.

While script calls are in flight, arrivals queue, and the next call takes as many as wait. There are a few connections,
so that this process prepares one batch while Redis writes another. The queue is bounded in entries and bytes; a full
one refuses at once.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, NamedTuple

from store.addresses import Address, Channel, Group, Inbox, Tag
from store.errors import ChannelRefused, EntryFailed, Overloaded, SenderOverBudget, StoreAway
from store.events.kinds import NO_EVENTS, WantedEvents
from store.record import encode_tail
from store.redis import keys
from store.redis.budget import COPY_BYTES, NOT_JUDGED, UNBOUNDED, Budget
from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.connection import wait_for_replicas
from store.redis.links import Links
from store.redis.memory import StoreMemory
from store.redis.pipelined import RedisConnection
from store.redis.scripts import script
from store.redis.shards import Shards, as_shards
from store.timelines.destinations import receivers

_QUEUED_ENTRIES = 20_000
_QUEUED_BYTES = 64 * 1024 * 1024
_BATCH_ENTRIES = 512
_BATCH_BYTES = 4 * 1024 * 1024
_BATCH_GROUPS = 64
"""Group messages in a batch: the script puts off those it does not reach."""
_SMALLEST_SPLIT = 4


class AppendCode(StrEnum):
    """Why an entry got no id: the first word of what the script replies for it."""

    REPEATED = "REPEATED"
    LATER = "LATER"
    REFUSED = "REFUSED"
    RATE = "RATE"
    FAILED = "FAILED"


class AppendReply(NamedTuple):
    """outcomes: of each entry, its id or a code. links: what is to be carried now."""

    outcomes: list[int | bytes]
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "AppendReply":
        outcomes, links = reply
        return cls(outcomes, [LinkEntry.parse(each) for each in links] if links else [])


_LATER = AppendCode.LATER.encode()
_SCRIPT = script("append", AppendReply)

_GROUP = "group"

CONNECTIONS = 4

_CALL_SECONDS = 2.0
"""For one call, reconnecting included; requests that wait for the next call wait at most this long, too."""


class Stored(NamedTuple):
    """mid: the message's id, microseconds. repeated: it was there before, and keeps its first id."""

    mid: int
    repeated: bool


class Entry(NamedTuple):
    """One message on its way, as the script takes it.

    names: keys; kind: of the address; to: whom, or the channel; tail: its record without the id. weight: bytes that
    this writes into Redis, but for a group's fan-out: that the script bounds. charge: what Redis is to judge, see
    `Budget`. received_at: by the broker, milliseconds. shards: of those in whose inboxes it belongs; None: all.
    """

    names: tuple[bytes, ...]
    kind: str
    to: str
    tail: bytes
    weight: int
    charge: int
    sender: str
    client_id: str
    received_at: int
    shards: tuple[int, ...] | None = None


class Appender:
    """Appends to timelines. `stop` lets it finish what was accepted.

    highest_id: of those it was given; a store whose clock is below it has lost them.
    """

    def __init__(
        self,
        redis: RedisClient | Shards[RedisClient],
        *,
        connections: int = CONNECTIONS,
        window_us: int,
        repeat_seconds: int,
        outbox_limit: int,
        sync_sender: bool = True,
        replicas: int = 0,
        budget: Budget = UNBOUNDED,
        memory: StoreMemory | None = None,
        events: WantedEvents = NO_EVENTS,
        on_batch: Callable[[int], object] | None = None,
        links: Links | None = None,
    ) -> None:
        """links: to the other shards, if there are any."""
        self._shards = as_shards(redis)
        self._links = links or Links(self._shards, window_us=window_us)
        self._carrying: set[asyncio.Task[None]] = set()
        self._connections = [RedisConnection(self._shards.home) for _ in range(connections)]
        self._window_us = window_us
        self._repeat_seconds = repeat_seconds
        self._outbox_limit = outbox_limit
        self._sync_sender = sync_sender
        self._replicas = replicas
        self._budget = budget
        self._memory = memory
        self._events = events.arguments
        self._on_batch = on_batch
        self._queue: list[tuple[Entry, asyncio.Future[Stored]]] = []
        self._queued_bytes = 0
        self._queued_groups = 0
        self._in_flight = 0
        self.highest_id = 0
        # Asked for once: up to Python 3.11 each `get_running_loop` is a system call.
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._write_batches(connection), name="append") for connection in self._connections
        ]

    async def stop(self) -> None:
        self._stopping = True
        self._arrived.set()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(*self._carrying)
        for connection in self._connections:
            await connection.aclose()

    def append(
        self, to: Address, sender: str, client_id: str, ts: int, json: bool, payload: bytes, *, judged: bool = True
    ) -> asyncio.Future[Stored]:
        """Queues a message for the timelines of its address. judged: whether it counts in the sender's budget.

        Raises Overloaded, StoreFull, SenderOverBudget; the future the latter too, what else the store can refuse, and
        ChannelRefused.
        """
        if self._stopping or len(self._queue) >= _QUEUED_ENTRIES or self._queued_bytes >= _QUEUED_BYTES:
            raise Overloaded("the queue for Redis is full" if not self._stopping else "shutting down")
        if self._memory is not None:
            self._memory.require_room()
        topic = to.topic
        tail = encode_tail(topic, sender, client_id, ts, json, payload)
        repeat_key = keys.repeat(sender, topic, client_id)
        if isinstance(to, Inbox):
            uids = receivers(to, sender, sync_sender=self._sync_sender)
            weight = len(tail) * 2 + len(uids) * COPY_BYTES + 256
            charge = self._charged(sender, client_id, weight, ts) if judged else NOT_JUDGED
            names: tuple[bytes, ...] = (repeat_key,)
            shards = tuple({self._shards.number(int(each)) for each in uids})
            return self._submit(
                Entry(names, "inbox", " ".join(uids), tail, weight, charge, sender, client_id, ts, shards)
            )
        kind, judging = _judging(to)
        channel = to.channel
        names = (repeat_key, *judging, keys.channel(channel))
        weight = len(tail) * 2 + 256
        charge = self._charged(sender, client_id, 0 if kind == _GROUP else weight, ts) if judged else NOT_JUDGED
        return self._submit(Entry(names, kind, channel, tail, weight, charge, sender, client_id, ts))

    def _charged(self, sender: str, client_id: str, size: int, ts: int) -> int:
        """Returns what Redis is to judge, of a message that writes so many bytes; 0: so many that only Redis knows."""
        try:
            return self._budget.charge(sender, size, ts) if size else self._budget.charge_for_many(sender, ts)
        except SenderOverBudget as over:
            raise SenderOverBudget(over.retry_after, client_id) from None

    def _submit(self, entry: Entry) -> asyncio.Future[Stored]:
        answer: asyncio.Future[Stored] = self._loop.create_future()
        self._queue.append((entry, answer))
        self._queued_bytes += entry.weight
        self._queued_groups += entry.kind == _GROUP
        self._arrived.set()
        return answer

    async def _write_batches(self, connection: RedisConnection) -> None:
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
                async with asyncio.timeout(_CALL_SECONDS):
                    reply = await self._write(connection, [entry for entry, _ in batch])
            except Exception as error:
                # Entries that queued behind a call that failed would only wait for the next one to fail.
                failure = StoreAway("append: Redis is too slow") if isinstance(error, TimeoutError) else error
                for entry, answer in [*batch, *self._take_all()]:
                    if entry.charge == NOT_JUDGED:
                        self._budget.give_back(entry.sender, entry.weight, entry.received_at)
                    if not answer.done():
                        answer.set_exception(failure)
                continue
            finally:
                self._in_flight -= len(batch)
            later = []
            carried: defaultdict[int, list[LinkEntry]] = defaultdict(list)
            for link in reply.links:
                for mid in link.mids:
                    carried[mid].append(link)
            for waiting, outcome in zip(batch, reply.outcomes, strict=True):
                entry, answer = waiting
                if outcome == _LATER:
                    later.append(waiting)
                elif answer.done():
                    continue
                elif isinstance(outcome, int):
                    self.highest_id = max(self.highest_id, outcome)
                    stored = Stored(outcome, False)
                    if outcome in carried:
                        self._answer_after(self._links.carry(carried[outcome]), answer, stored)
                    else:
                        answer.set_result(stored)
                else:
                    self._answer_coded(entry, answer, outcome.decode())
            self._put_back(later)
            if self._on_batch is not None:
                self._on_batch(len(batch) - len(later))

    def _answer_after(
        self, carrying: Coroutine[Any, Any, None], answer: asyncio.Future[Stored], stored: Stored
    ) -> None:
        """Answers once other shards have the message; while they do not, it counts as not stored."""

        async def carry() -> None:
            try:
                await carrying
            except Exception as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(stored)

        task = asyncio.create_task(carry(), name="carry")
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    def _take(self) -> list[tuple[Entry, asyncio.Future[Stored]]]:
        """Returns the next batch off the queue: at least one, and about half of all that is under way."""
        half = (len(self._queue) + self._in_flight + 1) // 2
        limit = min(_BATCH_ENTRIES, max(_SMALLEST_SPLIT, half))
        if len(self._queue) <= limit and self._queued_bytes <= _BATCH_BYTES and self._queued_groups <= _BATCH_GROUPS:
            return self._take_all()
        size, count, groups = 0, 0, 0
        for entry, _ in self._queue[:limit]:
            if count and (size + entry.weight > _BATCH_BYTES or groups + (entry.kind == _GROUP) > _BATCH_GROUPS):
                break
            size += entry.weight
            groups += entry.kind == _GROUP
            count += 1
        batch = self._queue[:count]
        del self._queue[:count]
        self._queued_bytes -= size
        self._queued_groups -= groups
        return batch

    def _put_back(self, entries: list[tuple[Entry, asyncio.Future[Stored]]]) -> None:
        """Puts entries back to the head of the queue, in their order."""
        if entries:
            self._queue[:0] = entries
            self._queued_bytes += sum(entry.weight for entry, _ in entries)
            self._queued_groups += sum(entry.kind == _GROUP for entry, _ in entries)
            self._arrived.set()

    def _take_all(self) -> list[tuple[Entry, asyncio.Future[Stored]]]:
        batch = self._queue
        self._queue = []
        self._queued_bytes = 0
        self._queued_groups = 0
        return batch

    async def _write(self, connection: RedisConnection, entries: list[Entry]) -> AppendReply:
        names: list[bytes] = []
        arguments: list[Any] = []
        for entry in entries:
            names += entry.names
            arguments += (entry.kind, entry.to, entry.tail, "" if entry.charge == NOT_JUDGED else entry.charge)
        reply = await _SCRIPT.run(
            connection,
            more_keys=names,
            more_arguments=arguments,
            caller_time=time.time_ns() // 1000,
            window=self._window_us,
            repeat_seconds=self._repeat_seconds,
            outbox_limit=self._outbox_limit,
            highest_id=self.highest_id,
            own_copies=int(self._sync_sender),
            budget_limit=self._budget.limit,
            min_charge=self._budget.min_charge,
            copy_bytes=COPY_BYTES,
            users_per_bitmap=keys.USERS_PER_BITMAP,
            **self._events,
        )
        stored = any(isinstance(outcome, int) for outcome in reply.outcomes)
        await wait_for_replicas(connection, self._replicas, has_written=stored)
        return reply

    def _answer_coded(self, entry: Entry, answer: asyncio.Future[Stored], outcome: str) -> None:
        code, _, said = outcome.partition(" ")
        if code == AppendCode.REPEATED:
            stored = Stored(int(said), True)
            if self._shards.count > 1:
                self._answer_after(self._links.reach(stored.mid, entry.shards), answer, stored)
            else:
                answer.set_result(stored)
        elif code == AppendCode.RATE:
            over = self._budget.close(entry.sender, entry.received_at)
            answer.set_exception(SenderOverBudget(over.retry_after, entry.client_id))
        elif code == AppendCode.REFUSED:
            answer.set_exception(ChannelRefused(said, entry.client_id))
        else:
            answer.set_exception(EntryFailed(outcome))


def _judging(to: Channel) -> tuple[str, tuple[bytes, ...]]:
    """Returns what kind of address it is, and the keys by which the script judges whether it is there, and who is in
    it.
    """
    if isinstance(to, Group):
        return _GROUP, (keys.group(to.gid), keys.members(to.gid))
    return ("tag", (keys.tag(to.name),)) if isinstance(to, Tag) else ("global", ())
