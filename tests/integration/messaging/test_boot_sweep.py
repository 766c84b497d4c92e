"""Whom a node of EMQX let in while it started is disconnected: before it can tell who is who, it lets in anybody."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hooks.emqx.rest import Listed, Node
from hooks.messaging import boot_sweep
from hooks.messaging.boot_sweep import BootSweep
from store.operations.boots import Boots
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import sweeping
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import NODE, Session
from tests.integration.presence.test_reconcile import online, reconciled
from tests.servers import RedisServer

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

OTHER = "emqx@another"
HOUR = 3_600_000


class Ender:
    """Records who was to be disconnected, in the order of the requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def put(self, share: str, clientid: str, reason: str) -> None:
        assert (share, reason) == (NODE, boot_sweep.REASON)
        self.asked.append(clientid)


class Broker:
    """Two nodes; `clients` are in its list, `uptimes` how long its nodes run."""

    def __init__(self) -> None:
        self.uptimes = {NODE: 2000, OTHER: HOUR}
        self.version = "5.8.9"
        self.clients: dict[str, Listed] = {}

    def connect(self, clientid: str, at: int, *, node: str = NODE, has_token: bool = False) -> None:
        self.clients[clientid] = Listed(clientid, clientid.split("-")[0], True, at, node, has_token)

    async def nodes(self) -> list[Node]:
        return [Node(name, uptime, self.version) for name, uptime in self.uptimes.items()]

    async def sessions(self, since: int = 0) -> AsyncIterator[list[Listed]]:
        for client in list(self.clients.values()):
            yield [client]


class Sweep:
    """The sweep of one process, which looks when a test says so, at a time that a test says."""

    def __init__(self, redis: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker = Broker()
        self.ender = Ender()
        self.boots = Boots(redis)
        self._lease = sweeping(redis)
        self.now = time.time_ns() // 1_000_000
        monkeypatch.setattr(boot_sweep, "_now", lambda: self.now)
        self._sweep = BootSweep(self.broker, self.boots, self._lease, self.ender)  # type: ignore[arg-type]

    async def look(self, after: int = 3000) -> list[str]:
        """Whom it has disconnected then."""
        self.now += after
        self.broker.uptimes = {node: uptime + after for node, uptime in self.broker.uptimes.items()}
        assert await self._lease.take()
        before = len(self.ender.asked)
        await self._sweep.look()
        await self._lease.leave()
        return self.ender.asked[before:]

    async def is_open(self) -> bool:
        return bool(await self.boots.begun(self.broker.uptimes, self.now))


@pytest.fixture
def sweep(redis: RedisClient, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return Sweep(redis, monkeypatch)


async def test_clients_that_came_unasked_before_the_first_token_are_disconnected(sweep: Sweep) -> None:
    at = sweep.now
    sweep.broker.connect("1001-intruder", at)
    sweep.broker.connect("ops-intruder", at + 100)
    sweep.broker.connect("1002-phone", at + 200)
    sweep.broker.connect("1003-proper", at + 200, has_token=True)
    sweep.broker.connect("tool-proper", at + 201)
    sweep.broker.connect("1004-proper", at + 300, has_token=True)
    sweep.broker.connect("tool-elsewhere", at, node=OTHER)
    assert await sweep.look() == ["1001-intruder", "ops-intruder", "1002-phone"]
    assert await sweep.is_open()
    for gone in ("1001-intruder", "ops-intruder", "1003-proper"):
        del sweep.broker.clients[gone]
    sweep.broker.connect("1002-phone", at + 4000, has_token=True)
    assert await sweep.look() == []
    assert not await sweep.is_open()
    sweep.broker.connect("tool-late", at)
    assert await sweep.look() == []


async def test_where_nobody_has_a_token_they_are_disconnected_once_and_at_the_end(sweep: Sweep) -> None:
    sweep.broker.connect("1001-intruder", sweep.now)
    assert await sweep.look() == ["1001-intruder"]
    sweep.broker.connect("1001-intruder", sweep.now + 100)
    sweep.broker.connect("tool", sweep.now + 100)
    assert await sweep.look() == ["tool"]
    assert await sweep.look(40_000) == []
    assert await sweep.look(20_000) == ["1001-intruder", "tool"]
    assert not await sweep.is_open()


async def test_a_node_that_starts_again_is_swept_again(sweep: Sweep) -> None:
    sweep.broker.connect("1001-intruder", sweep.now)
    sweep.broker.connect("1002-proper", sweep.now + 1, has_token=True)
    assert await sweep.look() == ["1001-intruder"]
    del sweep.broker.clients["1001-intruder"]
    assert await sweep.look() == []
    assert not await sweep.is_open()
    sweep.broker.clients.clear()
    sweep.now += HOUR
    sweep.broker.connect("1001-intruder", sweep.now)
    sweep.broker.uptimes[NODE] = 400_000
    assert await sweep.look() == ["1001-intruder"]


async def test_a_version_that_refuses_strangers_is_left_alone(sweep: Sweep) -> None:
    sweep.broker.version = "5.8.12"
    sweep.broker.connect("tool", sweep.now)
    assert await sweep.look() == []


async def test_a_node_that_ran_before_anybody_looked_is_left_alone(sweep: Sweep) -> None:
    """As after Redis was emptied: everybody may have connected in one moment, long ago."""
    sweep.broker.uptimes[NODE] = HOUR
    sweep.broker.connect("1001-phone", sweep.now - HOUR)
    assert await sweep.look() == []


def starting(app: App) -> tuple[int, str, str]:
    """Starts a node; returns when, and an intruder and a proper device that it let in."""
    app.emqx.uptimes[NODE] = 2000
    at = time.time_ns() // 1_000_000
    intruder, proper = f"{new_uid()}-intruder", f"{new_uid()}-phone"
    for clientid, has_token in ((intruder, False), (proper, True)):
        uid = clientid.split("-")[0]
        app.emqx.sessions[clientid] = Session(uid, connected_at=at + has_token, has_token=has_token)
    app.emqx.lists_all = True
    return at, intruder, proper


async def test_the_service_sweeps(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_app(redis_server.url, tmp_path, reconcile_seconds=1) as app:
        _, intruder, proper = starting(app)

        async def swept() -> bool:
            closed = not await Boots(redis).begun(app.emqx.uptimes, time.time_ns() // 1_000_000)
            return closed and intruder not in app.emqx.sessions

        await until(swept, 30)
        assert proper in app.emqx.sessions
        assert await app.metric('emqx_im_sessions_ended_total{reason="boot"}') == 1


async def test_reconciling_believes_nobody_who_was_let_in_unasked(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    await redis.set(keys.BOOT_LOCK, "another process's, which is slow", ex=60)
    async with running_app(redis_server.url, tmp_path, reconcile_seconds=1) as app:
        at, intruder, proper = starting(app)
        uids = [clientid.split("-")[0] for clientid in (intruder, proper)]

        async def there() -> bool:
            return bool((await online(app, uids[1]))[uids[1]])

        await until(there)
        before = await reconciled(app)

        async def again() -> bool:
            return await reconciled(app) > before + 1

        await until(again)
        assert await online(app, *uids) == {uids[0]: {}, uids[1]: {proper: at + 1}}


async def test_one_process_sweeps_and_another_follows_it(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with running_app(redis_server.url, tmp_path) as first:
        await until(lambda: redis.exists(keys.BOOT_LOCK))
        async with running_app(redis_server.url, tmp_path) as second:
            second.emqx.uptimes = first.emqx.uptimes = {}
            owner = await redis.get(keys.BOOT_LOCK)
        assert owner == await redis.get(keys.BOOT_LOCK)
    assert not await redis.exists(keys.BOOT_LOCK)
    async with running_app(redis_server.url, tmp_path) as app:
        _, intruder, _ = starting(app)

        async def ended() -> bool:
            return intruder not in app.emqx.sessions

        await until(ended, 30)
