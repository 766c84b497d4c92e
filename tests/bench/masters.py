"""The store on a Redis Cluster with a shard on each master, driven as the service drives it, but without HTTP."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any

from redis.crc import key_slot

from hooks.messaging.group_notices import GroupControlMessages
from store.addresses import Address, Group, Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.groups.context import CommandContext
from store.groups.groups import Groups, Limits
from store.operations.dead_letters import DeadLetters
from store.redis import keys
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.pipelined import PipelinedConnection
from store.redis.shards import connect_each, resolvers
from store.timelines.append import Appender, Stored
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from store.workers import Worker
from tests.bench.service import PAYLOAD
from tests.cluster import TestCluster
from tests.servers import program

UIDS = [number * keys.USERS_PER_BITMAP + 1 for number in range(1, 1201)]
"""They are spread over the shards as users of a large system are."""
_WINDOW_US = 7 * 86_400_000_000
_BOUNDS: dict[str, Any] = {"window_us": _WINDOW_US, "repeat_seconds": 7200, "outbox_limit": 2**40}
_LIMITS = Limits(write=10_000, read=10_000, user=10_000, groups=10_000, made=10_000, known=False)
_IDLE_SECONDS = 3.0
_STOPPED_SECONDS, _RUNNING_SECONDS = 0.03, 0.002
_NUMBERS = itertools.count(1)

Pair = tuple[int, int]
"""Sender and receiver."""


class Masters:
    """A cluster of so many masters, and what a process of the service has of the store on it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._chance = random.Random(count)
        self._groups: dict[int, list[tuple[int, list[int]]]] = {}
        """By how many members they have: gid and members of each."""

    async def begin(self, stack: contextlib.AsyncExitStack, directory: Path) -> None:
        """Starts everything; the stack ends it."""
        cluster = TestCluster(directory, program("redis-server"), masters=self.count, replicas=0)
        for node in cluster.nodes:
            node.arguments += ["--appendfsync", "always"]
        stack.callback(cluster.stop)
        cluster.start()
        nodes = resolvers(cluster.url, self.count)
        self.shards = connect_each(nodes)
        for each in (*nodes, *self.shards):
            stack.push_async_callback(each.aclose)
        self._nodes = [cluster.owner(key_slot(client.prefix)) for client in self.shards]
        if len({node.port for node in self._nodes}) != self.count:
            raise RuntimeError("two shards lie on one master")
        archive = open_archive(f"sqlite:///{directory}/archive.db")
        stack.push_async_callback(archive.close)
        await archive.migrate()
        outbox = Outbox(self.shards.home)
        self._archiver = Archiver(outbox, handlers(archive), DeadLetters(self.shards.home))
        recovery = StoreRecovery(self.shards, archive, self._archiver, window_us=_WINDOW_US, sync_sender=True)
        await recovery.ensure()
        self.links = Links(self.shards, window_us=_WINDOW_US)
        stack.push_async_callback(self.links.aclose)
        if self.count > 1:
            worker = Worker("links")
            beating = asyncio.create_task(self.links.run(worker))
            stack.push_async_callback(lambda: asyncio.gather(beating))
            stack.callback(worker.stop.set)
        writing = connect(nodes.home, single=True)
        stack.push_async_callback(writing.aclose)
        self._making = Groups(self.shards, writing, **_BOUNDS, limits=_LIMITS, links=self.links)
        pulling = self.shards.map(PipelinedConnection)
        for connection in pulling:
            stack.push_async_callback(connection.aclose)
        self._puller = Puller(pulling, archive, outbox, window_us=_WINDOW_US, roaming_us=_WINDOW_US)
        self.appender = await self._started(stack, own_copies=True)
        self._appender_without_copies = await self._started(stack, own_copies=False)
        now = time.time_ns() // 1_000_000
        for client, some in self.shards.parts(UIDS, lambda uid: uid):
            await client.zadd(client.key(keys.SEEN), dict.fromkeys(map(str, some), now))
        self._idle = [0.0] * self.count
        self._idle = [spent / _IDLE_SECONDS for spent in await self.spent(asyncio.sleep(_IDLE_SECONDS))]

    async def _started(self, stack: contextlib.AsyncExitStack, *, own_copies: bool) -> Appender:
        appender = Appender(self.shards, **_BOUNDS, sync_sender=own_copies, links=self.links)
        appender.start()
        stack.push_async_callback(appender.stop)
        return appender

    # What it takes

    async def spent(self, work: Awaitable[object]) -> list[float]:
        """Returns the seconds of processor time that the work took of each shard's master, the home's first.

        It is that of the thread that carries out commands, without what it takes when nothing is asked.
        """
        before, started = self._processor(), time.monotonic()
        await work
        took = time.monotonic() - started
        after = self._processor()
        return [now - then - idle * took for now, then, idle in zip(after, before, self._idle, strict=True)]

    async def throttled(self, work: Awaitable[object]) -> None:
        """Awaits the work while all masters are stopped for most of the time: they are the limit then, not the load."""
        working = asyncio.ensure_future(work)
        while not working.done():
            for node in self._nodes:
                node.hang()
            await asyncio.sleep(_STOPPED_SECONDS)
            for node in self._nodes:
                node.resume()
            await asyncio.sleep(_RUNNING_SECONDS)
        await working

    def _processor(self) -> list[float]:
        used = [node.client.info("cpu") for node in self._nodes]
        return [each["used_cpu_user_main_thread"] + each["used_cpu_sys_main_thread"] for each in used]

    def memory(self) -> list[int]:
        """Returns the bytes that each shard's master holds, without buffers of clients, log and cluster."""
        found = [node.client.info("memory") for node in self._nodes]
        return [
            each["used_memory"] - each["mem_clients_normal"] - each["mem_aof_buffer"] - each["mem_cluster_links"]
            for each in found
        ]

    async def archive(self) -> None:
        await self._archiver.archive_all(lambda: asyncio.sleep(0))

    async def forget(self) -> None:
        """Brings the store to what it is two hours later: marks of repeats have expired, and links were trimmed."""
        await self.links.reach(self.appender.highest_id)
        home = self.shards.home
        for shard in self.shards.others:
            await home.xtrim(keys.LINK_PREFIX + b"%d" % shard, maxlen=0)
        await home.set(keys.LINK_BYTES, 0)
        await self._delete(keys.PREFIX + b"r:")

    async def empty(self) -> None:
        """Forgets all messages: tables that grow by leaps begin anew."""
        await self.archive()
        await self.forget()
        await self._delete(keys.INBOX_PREFIX, keys.BODIES_PREFIX)

    async def _delete(self, *prefixes: bytes) -> None:
        for client in self.shards:
            for prefix in prefixes:
                names = [name async for name in client.scan_iter(client.key(prefix) + b"*", count=10_000)]
                for start in range(0, len(names), 1000):
                    await client.delete(*names[start : start + 1000])

    # What is done

    async def make_groups(self, members: int, count: int) -> None:
        self._groups[members] = []
        for _ in range(count):
            gid, uids = next(_NUMBERS), self._chance.sample(UIDS, members)
            context = CommandContext(gid, uids[0], f"make {gid}", GroupControlMessages("secret"))
            await self._making.create(context, members=uids[1:])
            self._groups[members].append((gid, uids))

    def pairs(self, count: int, *, apart: bool | None = None) -> Iterator[Pair]:
        """Yields two users each. apart: whether they are of different shards, if that matters."""
        while count:
            sender, receiver = self._chance.sample(UIDS, 2)
            if apart in (None, self.shards.number(sender) != self.shards.number(receiver)):
                count -= 1
                yield sender, receiver

    def private(self, pairs: Iterable[Pair], *, own_copies: bool = True) -> Iterator[Awaitable[Stored]]:
        for sender, receiver in pairs:
            yield self._say(Inbox(receiver), sender, own_copies)

    def to_groups(self, members: int, count: int) -> Iterator[Awaitable[Stored]]:
        for _ in range(count):
            gid, uids = self._chance.choice(self._groups[members])
            yield self._say(Group(gid), self._chance.choice(uids), True)

    def _say(self, to: Address, sender: int, own_copies: bool) -> Awaitable[Stored]:
        number = next(_NUMBERS)
        appender = self.appender if own_copies else self._appender_without_copies
        return appender.append(
            to, str(sender), f"{number}", time.time_ns() // 1_000_000, True, PAYLOAD % b"%021d" % number
        )

    async def pull(self, uid: int, cursor: int, limit: int, found: int) -> None:
        """Raises RuntimeError where the user does not find so many messages."""
        pulled = await self._puller.pull(uid, cursor, limit)
        if len(pulled.messages) != found:
            raise RuntimeError(f"{len(pulled.messages)} of {found} messages pulled")


async def all_of(calls: Iterable[Awaitable[object]], at_once: int) -> None:
    """Awaits them, so many at a time."""
    coming = iter(calls)

    async def some() -> None:
        for call in coming:
            await call

    await asyncio.gather(*(some() for _ in range(at_once)))


async def in_bursts(calls: Iterable[Awaitable[object]], size: int) -> None:
    """Awaits so many, then the next ones."""
    coming = iter(calls)
    while burst := list(itertools.islice(coming, size)):
        await asyncio.gather(*burst)
