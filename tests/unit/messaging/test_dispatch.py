"""Devices that came are dealt with in turns, and what failed is not taken for not done: without a server."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from hooks.emqx.rest import BrokerAway
from hooks.messaging import dispatch
from hooks.messaging.dispatch import Dispatch
from hooks.metrics import Metrics
from store.workers import Worker


class Broker:
    """A device's subscriptions, by clientid. `asked` has the clientids of all calls; those in `stuck` do not return."""

    def __init__(self) -> None:
        self.held: dict[str, set[str]] = {}
        self.asked: list[str] = []
        self.stuck: set[str] = set()
        self.loses_answers = False

    async def subscriptions(self, clientid: str) -> set[str]:
        await self._ask(clientid)
        return set(self.held.get(clientid, ()))

    async def subscribe(self, clientid: str, topics: Iterable[str]) -> None:
        self.held.setdefault(clientid, set()).update(topics)
        await self._ask(clientid)

    async def unsubscribe(self, clientid: str, topics: Iterable[str]) -> None:
        self.held[clientid] -= set(topics)
        await self._ask(clientid)

    async def _ask(self, clientid: str) -> None:
        self.asked.append(clientid)
        if clientid in self.stuck:
            await asyncio.Event().wait()
        if self.loses_answers:
            raise BrokerAway("no answer")


class Hands:
    """Holds users that are in hand."""

    def __init__(self) -> None:
        self.uids: list[int] = []

    async def begin(self, uid: int, clientid: str) -> None:
        if uid not in self.uids:
            self.uids.append(uid)

    async def end(self, uid: int, clientid: str) -> None:
        self.uids.remove(uid)


class World:
    def __init__(self) -> None:
        self.broker, self.hands = Broker(), Hands()
        self.wanted: dict[int, list[str]] = {}
        rest: Any = self.broker
        hands: Any = self.hands
        self.dispatch = Dispatch(rest, hands, Metrics())

    async def topics(self, uid: int) -> list[str]:
        return self.wanted.get(uid, ["business/global"])

    def put(self, uid: int, number: int = 0) -> None:
        self.dispatch.put(uid, f"{uid}-{number}", resumed=False, adds=True)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.dispatch.run(self.topics, Worker("dispatch", stop)))
        yield
        self.broker.stuck.clear()
        stop.set()
        await task

    async def until_subscribed(self, clientid: str, *topics: str) -> None:
        async with asyncio.timeout(20):
            while self.broker.held.get(clientid) != set(topics):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_users_many_devices_hold_up_nobody_else() -> None:
    world = World()
    for number in range(100):
        world.put(1, number)
    world.put(2)
    async with world.running():
        await world.until_subscribed("2-0", "business/global")
        assert world.broker.asked.index("2-0") <= dispatch._AT_ONCE
        await world.until_subscribed("1-99", "business/global")
        assert world.hands.uids == []


async def test_devices_that_do_not_answer_hold_up_nobody_else(monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatch, "_STOP_SECONDS", 0.01)
    world = World()
    world.broker.stuck = {f"1-{number}" for number in range(100)}
    for number in range(100):
        world.put(1, number)
    world.put(2)
    async with world.running():
        await world.until_subscribed("2-0", "business/global")
        assert world.hands.uids == [1]


async def test_what_failed_may_have_been_done() -> None:
    """The broker subscribed the device, and its answer was lost; then its user was removed from the group."""
    world = World()
    world.wanted[1] = ["business/global", "group/7"]
    world.broker.loses_answers = True
    world.put(1)
    async with world.running():
        await world.until_subscribed("1-0", "business/global", "group/7")
        world.wanted[1] = ["business/global"]
        assert world.hands.uids == [1]
        world.broker.loses_answers = False
        await world.until_subscribed("1-0", "business/global")
    assert world.hands.uids == []


async def test_a_user_finds_so_much_room() -> None:
    world = World()
    for number in range(200):
        world.put(1, number)
    world.put(2)
    async with world.running():
        await world.until_subscribed("2-0", "business/global")
    assert len(world.broker.held) == dispatch._QUEUED_OF_USER + 1
