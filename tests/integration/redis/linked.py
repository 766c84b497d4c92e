"""A store of two shards on one server, or on the masters of a cluster, and what may happen to one of them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hooks.messaging.group_notices import GroupControlMessages
from store.addresses import Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.errors import StoreEmpty
from store.groups.context import CommandContext
from store.groups.groups import Groups, Limits
from store.operations.dead_letters import DeadLetters
from store.redis import keys
from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.shards import Shards, connect_each, resolvers
from store.timelines.append import Appender, Stored
from store.timelines.gates import GateOutcome
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery

LIMITS = Limits(write=500, read=500, user=10, groups=10, made=10, known=False)
NOTICES = GroupControlMessages("secret")
WINDOW_US = 7 * 86_400_000_000
ELSEWHERE = 20_000
"""A user of the second of two shards."""


class Dying(Links):
    """A process that dies before it carries anything: `left` is what it has left."""

    def __init__(self, shards: Shards[RedisClient]) -> None:
        super().__init__(shards, window_us=WINDOW_US)
        self.left: list[LinkEntry] = []

    async def carry(self, entries: list[LinkEntry]) -> None:  # type: ignore[override]
        self.left += entries
        raise StoreEmpty("it died")


class Store:
    def __init__(self, url: str, directory: Path) -> None:
        nodes = resolvers(url, 2)
        self.shards = connect_each(nodes)
        self.home, self.other = self.shards
        self.gaps: list[int] = []
        self.links = Links(self.shards, window_us=WINDOW_US, on_gap=self.gaps.append)
        self.archive = open_archive(f"sqlite:///{directory}/archive.db")
        self.outbox = Outbox(self.home)
        self.archiver = Archiver(self.outbox, handlers(self.archive), DeadLetters(self.home))
        self.recovery = StoreRecovery(self.shards, self.archive, self.archiver, window_us=WINDOW_US, sync_sender=True)
        self.puller = Puller(self.shards, self.archive, self.outbox, window_us=WINDOW_US, roaming_us=WINDOW_US)
        self.writing = connect(nodes.home, single=True)
        self.groups = Groups(
            *(self.shards, self.writing),
            window_us=WINDOW_US,
            repeat_seconds=60,
            outbox_limit=2**30,
            limits=LIMITS,
            links=self.links,
        )
        self._sent = 0

    async def leave(self, count: int = 1, client_id: str = "") -> list[LinkEntry]:
        """Sends messages of which a process dies that has written them, and has not carried them; returns these."""
        dying = Dying(self.shards)
        for _ in range(count):
            with pytest.raises(StoreEmpty):
                await self.say(dying, client_id)
        return dying.left

    async def say(self, carried_by: Links | None = None, client_id: str = "") -> Stored:
        """Sends a message to the user elsewhere."""
        self._sent += 1
        appender = self.appender(carried_by or self.links)
        appender.start()
        try:
            return await appender.append(Inbox(ELSEWHERE), "1", client_id or f"m{self._sent}", 0, True, b"{}")
        finally:
            await appender.stop()

    def appender(self, links: Links) -> Appender:
        return Appender(self.shards, window_us=WINDOW_US, repeat_seconds=60, outbox_limit=2**30, links=links)

    async def make_group(self, gid: int) -> None:
        await self.groups.create(CommandContext(gid, 1, "make", NOTICES))

    async def invite(self, gid: int, uid: int) -> None:
        await self.groups.invite(CommandContext(gid, 1, f"invite {uid}", NOTICES), members=[uid])

    async def epochs(self) -> list[Any]:
        return [await client.get(client.key(keys.EPOCH)) for client in self.shards]

    async def look_anew(self) -> list[tuple[int, GateOutcome]]:
        """Looks after the store as a process does that has just begun; returns which shards it has let in, and how."""
        gates: list[tuple[int, GateOutcome]] = []
        recovery = StoreRecovery(
            *(self.shards, self.archive, self.archiver),
            window_us=WINDOW_US,
            sync_sender=True,
            on_gate=lambda *gate: gates.append(gate),
        )
        await recovery.ensure()
        return gates

    async def received(self) -> list[int]:
        return [message.mid for message in (await self.puller.pull(ELSEWHERE, 0, 1000)).messages]

    async def clock(self) -> int:
        return int(await self.other.get(self.other.key(keys.CLOCK)) or 0)


async def copied(client: RedisClient) -> dict[bytes, bytes]:
    """Returns all that lies in a shard."""
    return {name: await client.dump(name) or b"" async for name in client.scan_iter(match=client.prefix + b"*")}


async def put_back(client: RedisClient, copy: dict[bytes, bytes]) -> None:
    """Makes a shard what it was when it was copied, as a failover that loses its last writes does."""
    for name in [name async for name in client.scan_iter(match=client.prefix + b"*")]:
        await client.delete(name)
    for name, data in copy.items():
        await client.restore(name, 0, data)


async def start_again(client: RedisClient) -> None:
    """Makes it seem that the server of a shard was started again: it has another run, and no scripts."""
    await client.delete(client.key(keys.ADMITTED))
    await client.script_flush()


async def joined_and_left(redis: RedisClient, uid: int, gid: int) -> int:
    """Returns when a user left a group, as their shard knows it."""
    held: Any = await redis.hget(redis.key(keys.channel_map(uid)), f"group:{gid}")
    joined, _, left = held.decode().partition(":")
    assert int(joined) < int(left)
    return int(left)


@asynccontextmanager
async def running_store(url: str, directory: Path) -> AsyncIterator[Store]:
    """Yields a store of two shards that has just begun, and has seen its users."""
    running = Store(url, directory)
    await running.archive.migrate()
    await running.recovery.ensure()
    for client in running.shards:
        await client.zadd(client.key(keys.SEEN), {"1": time.time_ns() // 1_000_000, str(ELSEWHERE): 1})
    yield running
    await running.writing.aclose()
    await running.links.aclose()
    await running.archive.close()
    for client in running.shards:
        await client.aclose()
