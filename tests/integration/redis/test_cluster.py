"""Clients of a shard on a real cluster: they find its node, and find it again whatever happens to the nodes."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.crc import key_slot

from store.errors import NodeChanged, StoreAway
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect, resolver, wait_for_replicas
from store.redis.pipelined import PipelinedConnection, RedisConnection
from store.redis.resolver import NodeResolver
from tests.authority import Authority
from tests.cluster import ClusterNode, TestCluster
from tests.integration.app import until
from tests.servers import RedisServer, program, valkey_program

KEY = keys.PREFIX + b"key"
OTHER = keys.PREFIX + b"other"


class Clients:
    """One client of each kind, and what all of them share."""

    def __init__(self, url: str) -> None:
        self.resolver: NodeResolver = resolver(url)
        self.redis = connect(self.resolver)
        self.single = connect(self.resolver, single=True)
        self.blocking = connect(self.resolver, blocking=True)
        self.append = RedisConnection(self.redis)
        self.pull = PipelinedConnection(self.redis, seconds=1.0)

    @property
    def asking(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        return {
            "redis": self.redis.execute_command,
            "single": self.single.execute_command,
            "append": self.append.execute_command,
            "pull": self.pull.execute_command,
        }

    async def __aenter__(self) -> "Clients":
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in (self.redis, self.single, self.blocking, self.append, self.pull, self.resolver):
            await client.aclose()

    async def each_answers(self, seconds: float = 20) -> None:
        """Waits until a write of each of them succeeds."""
        for name, ask in self.asking.items():

            async def answered(ask: Callable[..., Awaitable[Any]] = ask, name: str = name) -> bool:
                try:
                    await asyncio.wait_for(ask("SET", KEY, name), 3)
                except (StoreAway, TimeoutError):
                    return False
                return True

            await until(answered, seconds)


@pytest_asyncio.fixture
async def clients(cluster: TestCluster) -> AsyncIterator[Clients]:
    async with Clients(cluster.url) as made:
        yield made


def slot_of(clients: Clients) -> int:
    return clients.resolver.slot


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def test_every_client_speaks_to_the_master_of_the_shard(cluster: TestCluster, clients: Clients) -> None:
    await clients.each_answers()
    owner = cluster.owner(slot_of(clients))
    assert owner.ask("GET", KEY) == "pull"
    assert str(await clients.resolver.address()) == f"127.0.0.1:{owner.port}"


async def test_a_failover_by_hand_fails_nothing(cluster: TestCluster, clients: Clients) -> None:
    written = 1
    assert await clients.redis.incr(KEY) == written
    failing = asyncio.create_task(in_thread(cluster.fail_over, slot_of(clients)))
    while not failing.done() or clients.resolver.generation == 0:
        for ask in clients.asking.values():
            written += 1
            assert await ask("INCR", KEY) == written
    assert str(await clients.resolver.address()) == f"127.0.0.1:{(await failing).port}"


async def test_the_replica_takes_over_from_a_master_that_was_killed(cluster: TestCluster, clients: Clients) -> None:
    await clients.each_answers()
    killed = cluster.owner(slot_of(clients))
    killed.kill()
    with pytest.raises(StoreAway):
        await clients.redis.get(KEY)
    taking = await in_thread(cluster.await_failover, slot_of(clients), killed)
    await clients.each_answers()
    assert taking.ask("GET", KEY) == "pull"


async def test_a_master_that_hangs_is_left_and_not_gone_back_to(cluster: TestCluster, clients: Clients) -> None:
    """Idle connections to it are left as soon as one of them was not answered."""
    await clients.each_answers()
    await asyncio.gather(*(clients.redis.ping() for _ in range(20)))
    hanging = cluster.owner(slot_of(clients))
    hanging.hang()
    try:
        with pytest.raises(StoreAway):
            await clients.redis.get(KEY)
        taking = await in_thread(cluster.await_failover, slot_of(clients), hanging)
        await clients.each_answers()
        began = time.monotonic()
        await asyncio.gather(*(clients.redis.get(KEY) for _ in range(20)))
        assert time.monotonic() - began < 1, "none of twenty waits for the node that hangs"
    finally:
        hanging.resume()
    for name, ask in clients.asking.items():
        await ask("SET", KEY, name)
        assert taking.ask("GET", KEY) == name
    await in_thread(cluster.settle)
    assert taking.ask("GET", KEY) == "pull"


async def test_while_a_slot_is_moved_key_by_key_nothing_is_done_by_half(
    cluster: TestCluster, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.redis.client._APART_SECONDS", 0.2)
    await clients.redis.mset({KEY: "1", OTHER: "2"})
    refused: list[NodeChanged] = []

    async def ask() -> None:
        for asking in clients.asking.values():
            with pytest.raises(NodeChanged) as caught:
                await asking("MSET", KEY, "x", OTHER, "y")
            refused.append(caught.value)

    to = await while_moved(cluster, slot_of(clients), ask)
    assert [error.code for error in refused] == ["TRYAGAIN"] * 4
    assert await clients.redis.mget(KEY, OTHER) == [b"1", b"2"]
    assert await clients.append.execute_command("GET", KEY) == b"1"
    assert str(await clients.resolver.address()) == f"127.0.0.1:{to.port}"


async def test_a_key_is_asked_for_where_it_lies_while_its_slot_is_moved(
    cluster: TestCluster, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a script may use keys that lie elsewhere, and WAIT is about what was written on its own connection."""
    monkeypatch.setattr("store.redis.client._APART_SECONDS", 0.2)
    await clients.redis.mset({KEY: "1", OTHER: "2"})
    new = keys.PREFIX + b"new"
    seen: list[Any] = []

    async def ask() -> None:
        seen.extend([await clients.redis.get(KEY), await clients.redis.get(OTHER)])
        seen.append(await clients.redis.hset(new, mapping={"a": "3"}))
        seen.append(await clients.redis.hgetall(new))
        nowhere = keys.PREFIX + b"nowhere"
        for asking in (
            clients.redis.eval("return 1", 1, nowhere),
            clients.single.get(nowhere),
            clients.append.execute_command("GET", nowhere),
        ):
            with pytest.raises(NodeChanged, match=r"^ASK "):
                await asking

    await while_moved(cluster, slot_of(clients), ask)
    assert seen == [b"1", b"2", 1, {b"a": b"3"}]
    assert await clients.append.execute_command("HGET", new, "a") == b"3"


async def test_what_needs_keys_of_both_nodes_is_repeated_until_they_lie_together(
    cluster: TestCluster, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.redis.client._APART_SECONDS", 30.0)
    await clients.redis.mset({KEY: "1", OTHER: "2"})
    asking: list[asyncio.Task[Any]] = []
    source = cluster.owner(slot_of(clients))
    before = refusals_of(source)

    async def ask() -> None:
        asking.extend(asyncio.ensure_future(ask("MGET", KEY, OTHER)) for ask in clients.asking.values())

        async def refused() -> bool:
            return refusals_of(source) >= before + 2 * len(asking)

        await until(refused)

    await while_moved(cluster, slot_of(clients), ask)
    assert await asyncio.gather(*asking) == [[b"1", b"2"]] * len(asking)


async def while_moved(cluster: TestCluster, slot: int, work: Callable[[], Coroutine[Any, Any, None]]) -> ClusterNode:
    """Moves a slot key by key; the work is done when half of the keys have been moved. Returns where to."""
    loop = asyncio.get_running_loop()

    def between() -> None:
        asyncio.run_coroutine_threadsafe(work(), loop).result(60)

    to = next(node for node in cluster.running if node.master and node is not cluster.owner(slot))
    await in_thread(cluster.move, slot, to, between)
    return to


def refusals_of(node: ClusterNode) -> int:
    """Returns how often a node has replied TRYAGAIN."""
    return int(node.client.info("errorstats").get("errorstat_TRYAGAIN", {}).get("count", 0))


async def test_a_slot_that_is_moved_at_once_fails_nothing(tmp_path: Path) -> None:
    with TestCluster(tmp_path, valkey_program(), masters=2, replicas=0).started() as cluster:
        async with Clients(cluster.url) as clients:
            written, slot = 0, slot_of(clients)
            to = next(node for node in cluster.nodes if node is not cluster.owner(slot))
            moving = asyncio.create_task(in_thread(cluster.move_at_once, slot, to))
            while not moving.done() or written < 200:
                for ask in clients.asking.values():
                    written += 1
                    assert await ask("INCR", KEY) == written
            await moving
            assert to.ask("GET", KEY) == str(written)


async def test_published_messages_follow_the_shard(cluster: TestCluster, clients: Clients) -> None:
    messages = clients.blocking.messages(keys.WAKEUPS)
    assert await anext(messages) is None
    await clients.redis.execute_command("SPUBLISH", keys.WAKEUPS, "1")
    assert await anext(messages) == b"1"
    to = next(node for node in cluster.running if node.master and node is not cluster.owner(slot_of(clients)))
    await in_thread(cluster.move, slot_of(clients), to)
    with pytest.raises(StoreAway):
        await anext(messages)
    messages = clients.blocking.messages(keys.WAKEUPS)
    assert await anext(messages) is None
    await clients.redis.execute_command("SPUBLISH", keys.WAKEUPS, "2")
    assert await anext(messages) == b"2"
    await messages.aclose()


async def test_nodes_that_were_not_named_are_found(cluster: TestCluster) -> None:
    """And the one that was named may be gone."""
    owner = cluster.owner(key_slot(KEY))
    async with Clients(owner.url) as clients:
        await clients.each_answers()
        owner.kill()
        await in_thread(cluster.await_failover, slot_of(clients), owner)
        await clients.each_answers()


async def test_all_nodes_that_were_named_may_go(tmp_path: Path) -> None:
    with TestCluster(tmp_path, valkey_program(), masters=2, replicas=0).started() as cluster:
        async with Clients(cluster.url) as clients:
            await clients.each_answers()
            named = list(cluster.nodes)
            taking = [await in_thread(cluster.add) for _ in named]
            for node, share in zip(taking, cluster.shares, strict=True):
                for first, last in share:
                    await in_thread(cluster.move_at_once, first, node, last)
            await clients.each_answers()
            for node in named:
                node.kill()
            await clients.each_answers()
            slot = slot_of(clients)
            other = next(node for node in taking if node is not cluster.owner(slot))
            await in_thread(cluster.move_at_once, slot, other)
            await clients.each_answers()
            assert other.ask("GET", KEY) == "pull"


async def test_a_slot_that_nobody_serves_is_one_clear_line(cluster: TestCluster) -> None:
    async with Clients(cluster.url) as clients:
        slot = slot_of(clients)
        owner = cluster.owner(slot)
        for node in cluster.running:
            node.ask("CLUSTER", "DELSLOTS", slot)
        try:
            for ask in clients.asking.values():
                with pytest.raises(StoreAway, match=f"^no node serves slot {slot}$"):
                    await ask("GET", KEY)
        finally:
            owner.ask("CLUSTER", "ADDSLOTS", slot)
            owner.ask("CLUSTER", "BUMPEPOCH")
            await in_thread(cluster.settle)
        await clients.each_answers()


async def test_several_servers_that_are_no_cluster_are_one_clear_line(redis_server: RedisServer) -> None:
    port = redis_server.port
    redis = connect(f"redis://127.0.0.1:{port},localhost:{port}")
    with pytest.raises(StoreAway, match="cluster support disabled"):
        await redis.get(KEY)
    await redis.aclose()


async def test_one_server_is_asked_once_whether_it_is_a_cluster(own_redis: RedisServer) -> None:
    async with Clients(own_redis.url) as clients:
        await clients.each_answers()
        own_redis.kill()
        for ask in clients.asking.values():
            with pytest.raises(StoreAway):
                await ask("GET", KEY)
        own_redis.start()
        await clients.each_answers()
        statistics: Any = await clients.redis.info("commandstats")
        assert "cmdstat_cluster|slots" not in statistics, "the server that was started again was not asked"


async def test_a_connection_opens_nothing_but_itself(
    own_redis: RedisServer, cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no more files may be opened, nothing fails that is not understood."""

    def no_files_left(name: str) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(metadata, "version", no_files_left)
    for url in (own_redis.url, cluster.url):
        async with Clients(url) as clients:
            await clients.each_answers()


async def test_a_password_is_given_to_every_node(tmp_path: Path) -> None:
    with TestCluster(tmp_path, program("redis-server"), masters=2, replicas=0, password="a:b@c,d").started() as cluster:
        async with Clients(cluster.url) as clients:
            await clients.each_answers()
        redis = connect(cluster.url.replace("a%3A", "b%3A"))
        with pytest.raises(StoreAway, match="invalid username-password pair"):
            await redis.get(KEY)
        await redis.aclose()


async def test_tls_with_several_nodes_and_their_failover(tmp_path: Path) -> None:
    """The nodes speak TLS to each other too; a certificate that another authority signed is not believed."""
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    with TestCluster(
        tmp_path / "cluster", program("redis-server"), password="p", authority=authority
    ).started() as cluster:
        believing = f"{cluster.url}/0?ssl_ca_certs={authority.certificate}"
        async with Clients(believing) as clients:
            await clients.each_answers()
            killed = cluster.owner(slot_of(clients))
            killed.kill()
            await in_thread(cluster.await_failover, slot_of(clients), killed)
            await clients.each_answers()
        for doubting in (cluster.url, f"{cluster.url}/0?ssl_ca_certs={stranger.certificate}"):
            redis = connect(doubting)
            with pytest.raises(StoreAway, match="certificate verify failed"):
                await redis.get(KEY)
            await redis.aclose()


async def test_replicas_are_waited_for_on_the_shards_node(cluster: TestCluster, clients: Clients) -> None:
    waiting: list[RedisClient | RedisConnection] = [clients.single, clients.append]
    for client in waiting:
        await client.execute_command("SET", KEY, "1")
        await wait_for_replicas(client, 1)
        with pytest.raises(StoreAway, match="1 of 2 replicas"):
            await wait_for_replicas(client, 2)


async def test_replicas_have_nothing_of_a_connection_that_was_lost(cluster: TestCluster, clients: Clients) -> None:
    """They have everything that was written on the one that took its place, which is nothing."""
    owner = cluster.owner(slot_of(clients))
    waiting: list[RedisClient | RedisConnection] = [clients.single, clients.append]
    for client in waiting:
        await client.execute_command("SET", KEY, "1")
        owner.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with connect(cluster.url) as other:
            await other.ping()
        with pytest.raises(StoreAway):
            await wait_for_replicas(client, 1)


def test_urls() -> None:
    assert [str(each) for each in resolver("rediss://user:p%2Cw@a:1,b,[::1]:2/0").named] == ["a:1", "b:6379", "::1:2"]
    assert resolver("unix:///run/redis.sock").named == ()
    for wrong in ("redis://a:1,b:x", "redis://a:99999999"):
        with pytest.raises(ValueError, match=r"[Pp]ort"):
            resolver(wrong)
