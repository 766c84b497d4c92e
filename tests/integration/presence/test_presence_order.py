"""Property tests: whatever the broker's devices do, and however its events arrive, presence ends in the true state."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any, NamedTuple

import orjson
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hooks.emqx.rest import Listed, Node
from hooks.messaging.reconcile import Reconciler
from hooks.metrics import Metrics
from hooks.webhook.body import Body
from hooks.webhook.device_events import ClientHook
from hooks.webhook.will import WillHook
from store.operations.boots import Boots
from store.presence.presence import MAX_STEP, Device, Presence, device_at
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import reconciling
from store.redis.shards import Shards, on_one_server
from tests.integration.conftest import Place

DEVICES = ((1, "1-phone"), (1, "1-desk"), (10_000, "10000-phone"), (keys.USERS_PER_BITMAP, "4096-phone"))
"""Their users do not all lie in the same of three shards."""
PAGE = 2
NODES = ("emqx@a", "emqx@b")
MAX_SKEW = 5000
"""Milliseconds by which clocks are wrong."""
LATE_MILLISECONDS = 3000
"""A will may be sent so long after another connection has taken over, if its process is slow or the clock is moved."""

Step = tuple[Any, ...]


class Connected(NamedTuple):
    """One connection. connected_at: by the clock of its node."""

    uid: int
    clientid: str
    connected_at: int
    node: str


class Event(NamedTuple):
    """One request of the broker's. connection: what it tells of."""

    hook: str
    connection: Connected
    fields: dict[str, Any]


class Broker:
    """Devices that connect, leave and die, and the events of it that have not arrived yet.

    Connections of one clientid follow each other; `waiting` has what is told of each, oldest connection first.
    skews: how many milliseconds the clock of each node is wrong.
    """

    def __init__(self, skews: tuple[int, ...]) -> None:
        self._clock = time.time_ns() // 1_000_000 - 86_400_000
        self._skews = dict(zip(NODES, skews, strict=True))
        self.connected: dict[str, Connected] = {}
        self.waiting: dict[Connected, list[Event]] = {}
        self.between: Callable[[], Awaitable[None]] | None = None

    def connect(self, uid: int, clientid: str, node: str, wait: int, reason: str) -> None:
        """Takes over the session of a connected clientid; its will is sent in the same millisecond, or late."""
        self._clock += wait
        if old := self.connected.pop(clientid, None):
            self._clock += 1
            if reason != "":
                late = LATE_MILLISECONDS if reason == "late will" else 0
                self._tell(old, "will", publish_received_at=self._now(old.node) + late)
            self._tell(old, "client.disconnected", reason="takenover")
        device = self.connected[clientid] = Connected(uid, clientid, self._now(node), node)
        self._clock += 1
        self._tell(device, "client.connected")

    def leave(self, clientid: str, wait: int, reason: str) -> None:
        """silent: with its node, and nobody tells."""
        if (device := self.connected.pop(clientid, None)) is None:
            return
        self._clock += wait + 1
        if reason == "will":
            self._tell(device, "will", publish_received_at=self._now(device.node))
        if reason != "silent":
            self._tell(device, "client.disconnected", reason="tcp_closed")

    def _now(self, node: str) -> int:
        return self._clock + self._skews[node]

    def _tell(self, device: Connected, event: str, **fields: Any) -> None:
        hook = "will" if event == "will" else "client"
        body = {"event": event, "clientid": device.clientid, "username": str(device.uid), "node": device.node, **fields}
        body |= {"connected_at": device.connected_at, "topic": f"im/will/{device.uid}"}
        self.waiting.setdefault(device, []).append(Event(hook, device, body))

    async def nodes(self) -> list[Node]:
        return []

    async def sessions(self, since: int = 0) -> AsyncIterator[list[Listed]]:
        """Yields the pages. Each is on its way for a while: what happens then is not in it."""
        after = ""
        while True:
            names = sorted(name for name in self.connected if name > after)
            page = [
                Listed(name, str(device.uid), True, device.connected_at, device.node, True)
                for name, device in ((name, self.connected[name]) for name in names[:PAGE])
            ]
            if self.between is not None:
                await self.between()
            yield page
            if len(names) <= PAGE:
                return
            after = names[PAGE - 1]


class World:
    """The broker, and the service's hooks and reconciling on a real Redis."""

    def __init__(self, shards: Shards[RedisClient], skews: tuple[int, ...]) -> None:
        self.broker = Broker(skews)
        self.presence = Presence(shards)
        metrics = Metrics()
        self.hooks: dict[str, Callable[[Body], Awaitable[None]]] = {
            "client": ClientHook(self.presence, None, None, metrics),  # type: ignore[arg-type]
            "will": WillHook(self.presence),
        }
        self._reconciler = Reconciler(self.presence, reconciling(shards.home), self.broker, Boots(shards.home), metrics)

    async def act(self, step: Step) -> None:
        match step:
            case ("connect", (uid, clientid), node, wait, reason):
                self.broker.connect(uid, clientid, node, wait, reason)
            case ("leave", (_, clientid), wait, reason):
                self.broker.leave(clientid, wait, reason)
            case ("arrive", number, again, anywhere):
                await self.arrive(number, again, anywhere)
            case ("reconcile", steps):
                await self.reconcile(list(steps))

    async def arrive(self, number: int, again: bool, anywhere: bool) -> None:
        """One event that waits: of any connection, or of the oldest of its clientid. `again`: not for the last time."""
        oldest = {device.clientid: device for device in reversed(self.broker.waiting)}
        devices = list(self.broker.waiting) if anywhere else list(oldest.values())
        events = [event for device in devices for event in self.broker.waiting[device]]
        if not events:
            return
        event = events[number % len(events)]
        await self.hooks[event.hook](event.fields)
        if not again:
            self.broker.waiting[event.connection].remove(event)
            if not self.broker.waiting[event.connection]:
                del self.broker.waiting[event.connection]

    async def reconcile(self, meanwhile: list[Step]) -> None:
        async def between() -> None:
            for step in meanwhile[:3]:
                await self.act(step)
            del meanwhile[:3]

        self.broker.between = between
        assert await self._reconciler.reconcile() is not None
        self.broker.between = None

    async def holds_the_truth(self) -> None:
        truth: dict[int, dict[str, int]] = {uid: {} for uid, _ in DEVICES}
        for device in self.broker.connected.values():
            truth[device.uid][device.clientid] = device.connected_at
        assert await self.presence.devices(truth) == truth
        everybody = [device async for some in self.presence.everybody() for device in some]
        connected = self.broker.connected.values()
        assert sorted(everybody) == sorted(device_at(each.node, *each[:3]) for each in connected)
        assert await self.presence.counts() == (sum(map(bool, truth.values())), len(everybody))

    async def hides_nobody(self) -> None:
        """Checks that connected devices are recorded; others may be."""
        held = await self.presence.devices([uid for uid, _ in DEVICES])
        for device in self.broker.connected.values():
            assert device.clientid in held[device.uid]


def steps(reasons: list[str], *, anywhere: bool) -> st.SearchStrategy[list[Step]]:
    device, node, wait = st.sampled_from(DEVICES), st.sampled_from(NODES), st.sampled_from([0, 1, 2, 3, 6_000, 90_000])
    connect = st.tuples(st.just("connect"), device, node, wait, st.sampled_from(["", "will", "late will"]))
    leave = st.tuples(st.just("leave"), device, wait, st.sampled_from(reasons))
    arrive = st.tuples(st.just("arrive"), st.integers(0, 20), st.booleans(), st.just(anywhere))
    step = st.one_of(connect, leave, arrive)
    reconcile = st.tuples(st.just("reconcile"), st.lists(step, max_size=6))
    return st.lists(st.one_of(step, step, step, step, reconcile), max_size=40)


async def play(
    shards: Shards[RedisClient],
    skews: tuple[int, ...],
    played: list[Step],
    order: Random,
    *,
    anywhere: bool,
    reconciled: bool,
) -> None:
    try:
        for redis in shards:
            await redis.flushall()
        for redis in shards:
            await redis.mset({redis.key(keys.EPOCH): "test", redis.key(keys.CLOCK): 1})
        world = World(shards, skews)
        for step in played:
            await world.act(step)
        while world.broker.waiting:
            await world.arrive(order.randrange(100), False, anywhere)
        await world.hides_nobody()
        if reconciled:
            await world.reconcile([])
        await world.holds_the_truth()
    finally:
        for redis in shards:
            await redis.aclose()


SKEWS = st.tuples(*[st.sampled_from([0, 1, -1, MAX_SKEW, -MAX_SKEW])] * len(NODES))
SAME = (0, 0)

CAME_WHILE_LISTED: list[Step] = [("reconcile", [("connect", DEVICES[0], NODES[0], 0, ""), ("arrive", 0, False, False)])]
LEFT_WHILE_LISTED: list[Step] = [
    ("connect", DEVICES[0], NODES[0], 0, ""),
    ("arrive", 0, False, False),
    ("reconcile", [("leave", DEVICES[0], 0, "closed"), ("arrive", 0, False, False)]),
]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@example(SAME, CAME_WHILE_LISTED, Random(1))
@example(SAME, LEFT_WHILE_LISTED, Random(1))
@given(SKEWS, steps(["closed", "will"], anywhere=False), st.randoms(use_true_random=False))
def test_events_late_twice_and_in_any_order_within_a_connection(
    place: Place, skews: tuple[int, ...], played: list[Step], order: Random
) -> None:
    asyncio.run(play(on_one_server(place.url, place.shards), skews, played, order, anywhere=False, reconciled=False))


def moved(node: str, reason: str) -> list[Step]:
    """Returns the steps of a device that connects elsewhere, or again, whose new connection is told before the old
    will.
    """
    arrive = [("arrive", number, False, True) for number in (0, 2, 0, 0)]
    return [("connect", DEVICES[0], NODES[0], 0, ""), ("connect", DEVICES[0], node, 0, reason), *arrive]


def back(node: str) -> list[Step]:
    """Returns the steps of a device that dies and connects to a node, with the new connection told before its death."""
    arrive = [("arrive", number, False, True) for number in (0, 2, 0, 0)]
    connected, again = [("connect", DEVICES[0], each, 0, "") for each in (NODES[0], node)]
    return [connected, ("leave", DEVICES[0], 0, "will"), again, *arrive]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@example((MAX_SKEW, -MAX_SKEW), moved(NODES[1], "will"), Random(1))
@example((1, 0), moved(NODES[1], "will"), Random(1))
@example((0, MAX_SKEW), moved(NODES[1], "will"), Random(1))
@example(SAME, moved(NODES[0], "will"), Random(1))
@example((MAX_SKEW, -MAX_SKEW), back(NODES[1]), Random(1))
@example((-MAX_SKEW, MAX_SKEW), back(NODES[1]), Random(1))
@example(SAME, back(NODES[0]), Random(1))
@example(SAME, moved(NODES[0], "late will"), Random(1))
@given(SKEWS, steps(["closed", "will", "silent"], anywhere=True), st.randoms(use_true_random=False))
def test_whatever_happened_nobody_is_hidden_and_reconciling_finds_the_truth(
    place: Place, skews: tuple[int, ...], played: list[Step], order: Random
) -> None:
    asyncio.run(play(on_one_server(place.url, place.shards), skews, played, order, anywhere=True, reconciled=True))


async def test_the_feed_tells_who_came_and_who_left(redis: RedisClient) -> None:
    await redis.mset({keys.EPOCH: "test", keys.CLOCK: 1})
    presence = Presence(redis)
    async with redis.pubsub() as feed:
        await feed.subscribe("im:{s0}:presence:feed")
        phone, desk = Device(7, "7-phone", 10), Device(7, "7-desk", 11)
        await presence.connected(phone, desk, Device(9, "9-phone", 10))
        await presence.disconnected(phone)
        await presence.disconnected(desk)
        told: list[dict[str, Any]] = []
        while len(told) < 3:
            message = await feed.get_message(ignore_subscribe_messages=True, timeout=10)
            told += [orjson.loads(message["data"])] if message else []
    assert [(each["uid"], each["online"]) for each in told] == [("7", True), ("9", True), ("7", False)]
    assert all(type(each["at"]) is int for each in told)


async def test_a_will_counts_on_the_node_of_the_connection_that_it_is_older_than(redis: RedisClient) -> None:
    await redis.mset({keys.EPOCH: "test", keys.CLOCK: 1})
    presence = Presence(redis)

    async def online() -> bool:
        return bool((await presence.devices([7]))[7])

    phone = device_at("emqx@a", 7, "7-phone", 100_000)
    await presence.connected(phone)
    await presence.died(device_at("emqx@b", 7, "7-phone", 200_000))
    await presence.died(device_at("emqx@a", 7, "7-phone", 100_000 + MAX_STEP))
    assert await online()
    await presence.died(device_at("emqx@a", 7, "7-phone", 100_001 + MAX_STEP))
    assert not await online()


async def test_what_an_earlier_version_held_is_understood(redis: RedisClient) -> None:
    await redis.mset({keys.EPOCH: "test", keys.CLOCK: 1})
    presence = Presence(redis)
    phone, desk = device_at("emqx@a", 7, "7-phone", 100_000), device_at("emqx@a", 7, "7-desk", 100_000)
    await presence.connected(phone, desk)
    await redis.hset(keys.DEVICES_PREFIX + b"7", mapping={"7-phone": 100_000, "7-desk": 100_000})
    assert await presence.devices([7]) == {7: {"7-phone": 100_000, "7-desk": 100_000}}
    await presence.connected(phone)
    assert sorted((await presence.connections([7]))[7]) == [Device(7, "7-desk", 100_000), phone]
    await presence.disconnected(phone)
    await presence.unlisted(*[device async for some in presence.everybody() for device in some])
    assert await presence.devices([7]) == {7: {}}
