"""How appends that wait together are written together. The test holds each call of Redis until it lets it go."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from store.addresses import Group, Inbox
from store.errors import ChannelRefused, EntryFailed, Overloaded, SenderOverBudget, StoreAway
from store.redis import keys
from store.redis.budget import Budget
from store.timelines import append
from store.timelines.append import Appender, Stored

TS = 1_764_300_000_000
PAYLOAD = b'{"id": "m"}'


class Call:
    """One call of the script, until `answer` or `fail`. tails: the records of its batch, in order."""

    def __init__(self, command: tuple[Any, ...]) -> None:
        _, _, count, *rest = command
        more = rest[count + len(append._SCRIPT.source.arguments) :]
        self.tails = list(more[2::4])
        self.reply: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        return len(self.tails)

    def answer(self, *outcomes: int | bytes) -> None:
        self.reply.set_result([list(outcomes), []])

    def store(self, first: int) -> None:
        """All of them, under ids from the first one on."""
        self.answer(*range(first, first + len(self)))


class FakeConnections:
    """Stands for all connections of one appender: its calls, in the order in which they were made."""

    prefix = keys.PREFIX
    resolver = SimpleNamespace(is_one_of_several=False)

    def __init__(self) -> None:
        self.calls = asyncio.Queue[Call]()
        self.closed = 0

    def __call__(self, redis: object) -> Any:
        return self

    async def execute_command(self, *command: Any) -> Any:
        call = Call(command)
        self.calls.put_nowait(call)
        return await call.reply

    async def aclose(self) -> None:
        self.closed += 1

    async def next(self) -> Call:
        return await asyncio.wait_for(self.calls.get(), 20)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> FakeConnections:
    fake = FakeConnections()
    monkeypatch.setattr(append, "RedisConnection", fake)
    return fake


class Appends:
    def __init__(self, **bounds: Any) -> None:
        nowhere: Any = None
        given = {"connections": 1, "window_us": 1, "repeat_seconds": 1, "outbox_limit": 1, **bounds}
        self.appender = Appender(nowhere, on_batch=self._note, **given)
        self.batches: list[int] = []

    def _note(self, size: int) -> None:
        self.batches.append(size)

    def put(self, number: int, to: Inbox | Group = Inbox(2), payload: bytes = PAYLOAD) -> asyncio.Future[Stored]:  # noqa: B008
        return self.appender.append(to, "1", str(number), TS, True, payload)


@pytest.fixture
async def appends(connections: FakeConnections) -> AsyncIterator[Appends]:
    made = Appends()
    made.appender.start()
    yield made
    while not connections.calls.empty():
        connections.calls.get_nowait().reply.cancel()
    await made.appender.stop()


async def test_what_arrives_while_a_call_is_in_flight_goes_into_the_next(
    appends: Appends, connections: FakeConnections
) -> None:
    first = appends.put(0)
    call = await connections.next()
    others = [appends.put(number) for number in range(1, 4)]
    assert len(call) == 1
    assert connections.calls.empty()
    call.store(100)
    assert await first == Stored(100, False)
    call = await connections.next()
    call.store(101)
    assert [(await other).mid for other in others] == [101, 102, 103]
    assert appends.batches == [1, 3]
    assert appends.appender.highest_id == 103


async def test_a_large_queue_is_split_between_the_connections(connections: FakeConnections) -> None:
    appends = Appends(connections=2)
    waiting = [appends.put(number) for number in range(100)]
    appends.appender.start()
    first, second = await connections.next(), await connections.next()
    assert len(first) == 50
    assert len(second) == 50
    first.store(1)
    second.store(51)
    assert [(await each).mid for each in waiting] == [*range(1, 101)]
    await appends.appender.stop()
    assert connections.closed == 2


async def test_a_batch_is_bounded_in_entries_and_in_bytes(connections: FakeConnections) -> None:
    appends = Appends()
    waiting = [appends.put(number) for number in range(2000)]
    appends.appender.start()
    sizes, stored = [], 0
    while stored < len(waiting):
        call = await connections.next()
        sizes.append(len(call))
        call.store(1 + stored)
        stored += len(call)
    await asyncio.gather(*waiting)
    assert max(sizes) == append._BATCH_ENTRIES
    large = [appends.put(number, payload=b" " * append._BATCH_BYTES) for number in range(3)]
    for number in range(3):
        call = await connections.next()
        assert len(call) == 1
        call.store(3000 + number)
    assert [(await each).mid for each in large] == [3000, 3001, 3002]
    await appends.appender.stop()


async def test_what_a_call_did_not_reach_comes_first_in_the_next(
    appends: Appends, connections: FakeConnections
) -> None:
    appends.put(0)
    held = await connections.next()
    waiting = [appends.put(number, Group(7)) for number in range(1, 4)]
    held.store(1)
    call = await connections.next()
    late, tails = appends.put(4), call.tails
    call.answer(2, append._LATER, append._LATER)
    assert (await waiting[0]).mid == 2
    call = await connections.next()
    assert call.tails[:2] == tails[1:]
    call.store(3)
    assert [(await each).mid for each in (*waiting[1:], late)] == [3, 4, 5]
    assert appends.batches == [1, 1, 3]


async def test_each_entry_has_its_own_answer(appends: Appends, connections: FakeConnections) -> None:
    appends.put(0)
    (await connections.next()).store(1)
    waiting = [appends.put(number) for number in range(4)]
    (await connections.next()).answer(7, b"REPEATED 5", b"REFUSED not_a_member", b"ERR broken")
    assert await waiting[0] == Stored(7, False)
    assert await waiting[1] == Stored(5, True)
    with pytest.raises(ChannelRefused, match="not_a_member"):
        await waiting[2]
    with pytest.raises(EntryFailed, match="broken"):
        await waiting[3]
    assert appends.appender.highest_id == 7


async def test_a_sender_over_the_budget_hears_so_with_the_id_of_the_message(connections: FakeConnections) -> None:
    appends = Appends(budget=Budget(100_000, 100, ()))
    appends.appender.start()
    waiting = appends.put(5)
    (await connections.next()).answer(b"RATE")
    with pytest.raises(SenderOverBudget) as over:
        await waiting
    assert over.value.client_id == "5"
    with pytest.raises(SenderOverBudget):
        appends.put(6)
    await appends.appender.stop()


async def test_what_queued_behind_a_call_that_failed_fails_with_it(
    appends: Appends, connections: FakeConnections
) -> None:
    first = appends.put(0)
    call = await connections.next()
    behind = [appends.put(number) for number in range(1, 4)]
    call.reply.set_exception(StoreAway("lost"))
    for each in (first, *behind):
        with pytest.raises(StoreAway, match="lost"):
            await each
    again = appends.put(9)
    (await connections.next()).store(1)
    assert (await again).mid == 1


async def test_a_call_that_takes_too_long_is_a_redis_that_is_away(
    connections: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append, "_CALL_SECONDS", 0.0)
    appends = Appends()
    appends.appender.start()
    with pytest.raises(StoreAway, match="Redis is too slow"):
        await appends.put(0)
    await appends.appender.stop()


async def test_a_full_queue_refuses_at_once(connections: FakeConnections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append, "_QUEUED_ENTRIES", 2)
    appends = Appends()
    waiting = [appends.put(0), appends.put(1)]
    with pytest.raises(Overloaded, match="full"):
        appends.put(2)
    monkeypatch.setattr(append, "_QUEUED_ENTRIES", 1000)
    monkeypatch.setattr(append, "_QUEUED_BYTES", 1)
    with pytest.raises(Overloaded, match="full"):
        appends.put(2)
    appends.appender.start()
    (await connections.next()).store(1)
    await asyncio.gather(*waiting)
    await appends.appender.stop()


async def test_stopping_finishes_what_was_accepted_and_takes_no_more(
    connections: FakeConnections,
) -> None:
    appends = Appends()
    appends.appender.start()
    first = appends.put(0)
    call = await connections.next()
    second = appends.put(1)
    stopping = asyncio.create_task(appends.appender.stop())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="shutting down"):
        appends.put(2)
    call.store(1)
    (await connections.next()).store(2)
    await stopping
    assert [(await each).mid for each in (first, second)] == [1, 2]


async def test_a_caller_who_gave_up_is_no_trouble_to_the_others(appends: Appends, connections: FakeConnections) -> None:
    appends.put(0)
    (await connections.next()).store(1)
    gone, here = appends.put(1), appends.put(2)
    call = await connections.next()
    gone.cancel()
    call.store(2)
    assert (await here).mid == 3
