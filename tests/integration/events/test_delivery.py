"""Delivery to a back end that fails, hangs, wants no more or is away: at least once, in order, or counted as lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest

from hooks.events.delivery import EventDelivery
from hooks.events.receiver import Receiver, ReceiverAway, digest_of
from hooks.events.render import render
from hooks.metrics import Metrics
from store.addresses import Group, Inbox
from store.errors import EntryFailed, LeaseLost, StoreAway
from store.events.kinds import EventKind, WantedEvents
from store.events.queues import OTHERS, EventCounts, EventQueues
from store.presence.presence import Device, Presence
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import Lease
from store.redis.scripts import admit
from store.timelines.append import Appender
from store.workers import Worker
from tests.integration.app import until
from tests.integration.events.back_end import SECRET, BackEnd

LIMIT = 2**20


class Sender:
    """Stores messages whose events are asked for, from one user to others."""

    def __init__(self, redis: RedisClient, limit: int = LIMIT) -> None:
        asked = WantedEvents([EventKind.MESSAGE_STORED], limit)
        self.appender = Appender(redis, window_us=10**12, repeat_seconds=60, outbox_limit=2**30, events=asked)
        self.mids: list[int] = []

    async def send(self, count: int, payload: bytes = b"{}") -> None:
        for _ in range(count):
            number = len(self.mids)
            stored = await self.appender.append(Inbox(2), "1", f"m{number}", 0, True, payload)
            self.mids.append(stored.mid)


@pytest.fixture
async def sender(redis: RedisClient) -> AsyncIterator[Sender]:
    await redis.set(keys.EPOCH, "test")
    await admit(redis)
    sender = Sender(redis)
    sender.appender.start()
    yield sender
    await sender.appender.stop()


async def hardly(stop: asyncio.Event, seconds: float) -> None:
    """Pauses for a hundredth of what it is told."""
    await asyncio.sleep(seconds / 100)


Deliver = Callable[..., Any]


@pytest.fixture
def delivering(redis: RedisClient, back_end: BackEnd) -> Deliver:
    """A process that delivers, for as long as a block lasts."""

    @asynccontextmanager
    async def deliver(*, answers_within: float = 5.0, lease: float = 15.0) -> AsyncIterator[EventDelivery]:
        receiver = Receiver(back_end.url, SECRET, seconds=answers_within)
        delivery = EventDelivery(EventQueues(redis), Lease(redis, keys.EVENTS_LOCK, lease), receiver, Metrics())
        workers = [Worker("lease", sleep=hardly), Worker("events", expected=(ReceiverAway,), sleep=hardly)]
        tasks = [
            asyncio.create_task(delivery.keep_lease(workers[0])),
            asyncio.create_task(delivery.run(workers[1])),
        ]
        try:
            yield delivery
        finally:
            for worker in workers:
                worker.stop.set()
            await asyncio.gather(*tasks)
            await receiver.close()

    return deliver


async def all_taken(back_end: BackEnd, sender: Sender) -> None:
    """Returns once every message was told; in order."""

    async def taken() -> bool:
        return len(back_end.taken("message.stored")) >= len(sender.mids)

    await until(taken, 30)
    assert [each["mid"] for each in back_end.taken("message.stored")] == sender.mids


async def test_what_a_failing_back_end_does_not_take_comes_again_in_order(
    redis: RedisClient, sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    back_end.before = [500, 503, 302, 404]
    await sender.send(150)
    async with delivering():
        await all_taken(back_end, sender)
    first = [name for name, _ in back_end.requests[:5]]
    assert len(set(first)) == 1, "the same batch has the same id"
    counts = await EventQueues(redis).counts()
    assert (counts.written, counts.sent, counts.waiting, counts.bytes) == (150, 150, 0, 0)


async def test_a_batch_has_at_most_a_hundred_events(sender: Sender, back_end: BackEnd, delivering: Deliver) -> None:
    await sender.send(250)
    async with delivering():
        await all_taken(back_end, sender)
    assert len(back_end.requests) < 10
    assert max(count for _, count in back_end.requests) > 60


async def test_a_back_end_that_hangs_is_asked_again(sender: Sender, back_end: BackEnd, delivering: Deliver) -> None:
    back_end.before = [0]
    await sender.send(3)
    async with delivering(answers_within=0.2):
        await all_taken(back_end, sender)


async def test_a_slow_back_end_is_waited_for_and_asked_once(
    redis: RedisClient, sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    """However long it takes: nobody else delivers meanwhile, and what is stored meanwhile comes after it."""
    await sender.send(3)
    back_end.ready.clear()
    async with delivering(lease=0.5), delivering(lease=0.5):
        await until(lambda: _asked(back_end))
        await sender.send(3)
        ttl = await redis.pttl(keys.EVENTS_LOCK)
        # The lease is kept past its end.
        await until(lambda: _lasts(redis, ttl), 5)
        assert len(back_end.requests) == 1
        assert back_end.events == []
        back_end.ready.set()
        await all_taken(back_end, sender)
    assert len(back_end.events) == len(sender.mids), "nothing came twice"


async def _lasts(redis: RedisClient, ttl: int) -> bool:
    return await redis.pttl(keys.EVENTS_LOCK) > ttl


async def test_a_back_end_that_dies_with_a_batch_gets_it_again(
    sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    back_end.dies = True
    await sender.send(3)
    async with delivering():
        await all_taken(back_end, sender)
        await until(lambda: _came(back_end, 6))


async def _came(back_end: BackEnd, count: int) -> bool:
    return len(back_end.events) == count


async def test_410_stops_delivery_until_it_is_resumed(
    redis: RedisClient, sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    back_end.before = [410]
    await sender.send(3)
    queues = EventQueues(redis)
    async with delivering() as delivery:
        await until(lambda: queues.stopped(digest_of(back_end.url)))
        await sender.send(3)
        for _ in range(3):
            await delivery.step()
        assert len(back_end.requests) == 1
        assert await queues.resume()
        await all_taken(back_end, sender)
    assert not await queues.resume()


async def test_what_waits_for_too_long_is_dropped_from_the_oldest_on_and_counted(
    redis: RedisClient, sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    await sender.send(100, b'"%b"' % (b"x" * 16_000))
    counts = await EventQueues(redis).counts()
    assert counts.bytes <= LIMIT
    lost = counts.dropped["message.stored"]
    assert 30 < lost < 50
    assert counts.waiting == 100 - lost
    sender.mids = sender.mids[lost:]
    async with delivering():
        await all_taken(back_end, sender)
    assert (await EventQueues(redis).counts()).bytes == 0


async def test_presence_is_dropped_before_messages(redis: RedisClient, sender: Sender) -> None:
    presence = Presence(redis, events=WantedEvents([EventKind.USER_ONLINE], LIMIT))
    for uid in range(100, 120):
        await presence.connected(Device(uid, f"{uid}-phone", 1))
    while not (dropped := (await EventQueues(redis).counts()).dropped):
        await sender.send(1, b'"%b"' % (b"x" * 16_000))
    assert set(dropped) == {"user.online"}
    await sender.send(10, b'"%b"' % (b"x" * 16_000))
    counts = await EventQueues(redis).counts()
    assert counts.dropped["user.online"] == 20
    assert counts.dropped["message.stored"] > 0
    assert counts.bytes <= LIMIT


@pytest.mark.parametrize(("members", "named"), [(2000, True), (2001, False)])
async def test_members_of_a_very_large_group_are_not_named(redis: RedisClient, members: int, named: bool) -> None:
    await redis.mset({keys.EPOCH: "test"})
    await redis.hset(keys.group(7), mapping={"mode": "read", "made": 1})
    await redis.zadd(keys.members(7), {str(uid): uid for uid in range(1, members + 1)})
    await admit(redis)
    asked = WantedEvents([EventKind.MESSAGE_OFFLINE], LIMIT)
    await Presence(redis).connected(*(Device(uid, f"{uid}-phone", 1) for uid in range(1, 1990)))
    appender = Appender(redis, window_us=10**12, repeat_seconds=60, outbox_limit=2**30, events=asked)
    appender.start()
    await appender.append(Group(7), "1995", "m", 0, True, b"{}")
    await appender.stop()
    ((entry,),) = [await EventQueues(redis).waiting(OTHERS)]
    (event,) = map(orjson.loads, render(entry))
    away = [str(uid) for uid in range(1990, members + 1) if uid != 1995]
    assert event["uids"] == (away if named else None)


async def test_one_process_delivers_and_another_takes_over(
    sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    await sender.send(150)
    back_end.before = [503]
    async with delivering() as one, delivering():
        await until(lambda: _asked(back_end))
        await one.keep()
        await all_taken(back_end, sender)
        assert len(back_end.events) == len(sender.mids), "nothing came twice"
    await sender.send(5)
    async with delivering():
        await all_taken(back_end, sender)


async def _asked(back_end: BackEnd) -> bool:
    return bool(back_end.requests)


async def test_a_process_that_dies_before_it_says_what_was_taken_leaves_it_to_another(
    redis: RedisClient, sender: Sender, back_end: BackEnd, delivering: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sender.send(5)
    delivered = EventQueues.delivered

    async def dies(*_: object) -> int:
        raise StoreAway("killed")

    monkeypatch.setattr(EventQueues, "delivered", dies)
    async with delivering():
        await until(lambda: _asked(back_end))
    monkeypatch.setattr(EventQueues, "delivered", delivered)
    await sender.send(5)
    async with delivering():
        await all_taken(back_end, sender)
    assert len(back_end.events) > len(sender.mids)


async def test_what_was_lost_with_redis_is_counted(
    redis: RedisClient, sender: Sender, back_end: BackEnd, delivering: Deliver
) -> None:
    back_end.status = 503
    async with delivering() as one, delivering() as other:
        await sender.send(5)
        await one.keep()
        await other.keep()
        await redis.flushall()

        async def counted() -> bool:
            return (await EventQueues(redis).counts()).lost == 5

        await until(counted)


async def test_what_was_lost_is_counted_once_whoever_sees_it_first(
    redis: RedisClient, sender: Sender, back_end: BackEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes at once: one has just kept the lease, one has just not got it, when Redis is emptied."""
    receiver = Receiver(back_end.url, SECRET, seconds=5)

    def process() -> EventDelivery:
        return EventDelivery(EventQueues(redis), Lease(redis, keys.EVENTS_LOCK, 15.0), receiver, Metrics())

    async def look(first: EventDelivery, second: EventDelivery) -> int:
        """`first` looks at the lease, what Redis has of events is lost, and both go on."""
        with monkeypatch.context() as patch:
            counts = EventQueues.counts

            async def emptied(queues: EventQueues) -> EventCounts:
                patch.setattr(EventQueues, "counts", counts)
                await redis.delete(keys.EVENT_COUNTS, keys.EVENTS, keys.EVENTS_LOCK)
                return await counts(queues)

            patch.setattr(EventQueues, "counts", emptied)
            await first.keep()
        for each in (second, first, second):
            with suppress(LeaseLost):
                await each.keep()
        return (await EventQueues(redis).counts()).lost

    one, other = process(), process()
    for first, second in ((one, other), (other, one), (other, one)):
        await sender.send(5)
        for each in (one, other):
            with suppress(LeaseLost):
                await each.keep()
        assert await look(first, second) == 5
    await receiver.close()


async def test_a_message_that_is_not_stored_is_not_told(redis: RedisClient, sender: Sender) -> None:
    await redis.set(keys.OUTBOX, "no stream")
    with pytest.raises(EntryFailed):
        await sender.send(1)
    assert await redis.xlen(keys.EVENTS) == 0
    await redis.delete(keys.OUTBOX)
    await redis.set(keys.EVENTS, "no stream")
    with pytest.raises(EntryFailed):
        await sender.send(1)
    assert await redis.xlen(keys.OUTBOX) == 0


async def test_nothing_is_written_for_what_nobody_asked_for(redis: RedisClient, sender: Sender) -> None:
    appender = Appender(redis, window_us=10**12, repeat_seconds=60, outbox_limit=2**30)
    appender.start()
    await appender.append(Inbox(2), "1", "unasked", 0, True, b"{}")
    await appender.stop()
    assert not await redis.exists(keys.EVENTS, keys.EVENTS_OF_USERS, keys.EVENT_COUNTS)
