"""A store on a real Redis and a real archive, used as the service uses it."""

import asyncio
import itertools
import math
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
import pytest_asyncio

from hooks.messaging.group_notices import GroupControlMessages
from hooks.messaging.moderation import MODERATION
from hooks.messaging.replacement_notices import ReplacementControlMessages, read_report
from store.addresses import Address, Group, Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.groups.context import CommandContext
from store.groups.groups import Changed, Groups, Limits
from store.groups.moderation import Moderators
from store.operations.dead_letters import DeadLetters
from store.operations.permissions import Permission, PermissionWork
from store.record import Message
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.shards import Shards, connect_each, resolvers
from store.timelines.append import Appender, Stored
from store.timelines.hot_channels import CacheStats, HotChannels
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.replacements import Replaced, Replacements
from tests.servers import RedisServer

WINDOW_US = 7 * 86_400_000_000
GID = 77
SPREAD = [1, 10_000, 20_000, 2, 10_001]
"""Users who do not all lie in the same of three shards."""
_ids = itertools.count(1)
NOTICES = GroupControlMessages("secret")
REPLACED = ReplacementControlMessages("secret")


class Control(NamedTuple):
    """A control message that was pulled."""

    topic: str
    kind: str
    body: dict[str, Any]


class Store:
    """The store as a service has it. Commands get a new id unless they are given one."""

    def __init__(self, url: str, directory: Path, limits: Limits, count: int = 1, **settings: Any) -> None:
        """count: of shards."""
        self.url = url
        nodes = resolvers(url, count)
        self.shards = connect_each(nodes)
        self.links = Links(self.shards, window_us=WINDOW_US)
        self.redis = self.shards.home
        self.write_connection = connect(nodes.home, single=True)
        own_archive = f"sqlite:///{tempfile.mkdtemp(dir=directory)}/archive.db"
        self.archive = open_archive(settings.pop("archive_url", own_archive))
        self.outbox = Outbox(self.redis)
        self.archiver = Archiver(self.outbox, handlers(self.archive), DeadLetters(self.redis))
        self.recovery = StoreRecovery(self.shards, self.archive, self.archiver, window_us=WINDOW_US, sync_sender=True)
        bounds: dict[str, Any] = {"window_us": WINDOW_US, "repeat_seconds": 3600, "outbox_limit": 2**30, **settings}
        sync_sender = bounds.pop("sync_sender", True)
        self.appender = Appender(self.shards, **bounds, sync_sender=sync_sender, links=self.links)
        self._bounds, self._limits = bounds, limits
        self.groups = self.new_groups()
        self.moderators = Moderators(self.redis, self.groups)
        self.seconds: list[CacheStats] = []
        self.hot = HotChannels(self.shards.home, 1.0, read_report, self.seconds.append)
        """Its seconds pass when a test says so."""
        self.puller = self.new_puller(Shards([self.hot]) if count == 1 else self.shards.map(self._not_hot))
        self.permissions = PermissionWork(self.redis)
        self.last_number = 0
        """The content of the last edit."""
        self.replacements = Replacements(
            *(self.write_connection, self.archive, self.outbox),
            **{**bounds, "recall_seconds": 3600, "edit_seconds": 3600, "sync_sender": sync_sender},
            shards=self.shards,
            links=self.links,
        )

    def new_groups(self, **settings: Any) -> Groups:
        given = {**self._bounds, "limits": self._limits, "links": self.links, **settings}
        return Groups(self.shards, self.write_connection, **given)

    def new_puller(self, hot: HotChannels | Shards[HotChannels], window_us: int = WINDOW_US) -> Puller:
        return Puller(self.shards, self.archive, self.outbox, window_us=window_us, roaming_us=window_us, hot=hot)

    def _not_hot(self, redis: RedisClient) -> HotChannels:
        return HotChannels(redis, math.inf, read_report)

    async def flush(self) -> None:
        """Empties all that it lies on."""
        for redis in self.shards:
            await redis.flushall()

    async def start(self) -> None:
        await self.flush()
        await self.archive.migrate()
        await self.recovery.ensure()
        await self.all_seen()
        self.appender.start()

    async def all_seen(self) -> None:
        """Everybody was there once: their inboxes are written."""
        now = time.time_ns() // 1_000_000
        for redis in self.shards:
            await redis.zadd(redis.key(keys.SEEN), {str(uid): now for uid in [*range(1, 5001), *SPREAD]})

    async def stop(self) -> None:
        await self.appender.stop()
        await self.archive.close()
        await self.links.aclose()
        for client in (*self.shards, self.write_connection):
            await client.aclose()

    async def command(self, kind: str, gid: int, actor: int, /, **arguments: Any) -> Changed:
        command_id, received_at = arguments.pop("command_id", f"c{next(_ids)}"), arguments.pop("received_at", None)
        of = self.moderators if kind in MODERATION else self.groups
        context = CommandContext(gid, actor, command_id, NOTICES, received_at)
        changed: Changed = await getattr(of, kind)(context, **arguments)
        return changed

    async def replace(self, verb: str, to: Address, mid: int, actor: int) -> Replaced:
        """Recalls a message, or edits it: its `body` says then which command did it."""
        number = self.last_number = next(_ids)
        given: dict[str, Any] = {
            "command_id": f"c{number}",
            "sent_at": time.time_ns() // 1_000_000,
            "notices": REPLACED,
        }
        if verb == "recall":
            return await self.replacements.recall(to, mid, actor, **given)
        return await self.replacements.edit(to, mid, actor, **given, content={"type": "text", "body": number})

    async def create(self, *members: int, gid: int = GID, owner: int = 1, **arguments: Any) -> Changed:
        return await self.command("create", gid, owner, members=members, **arguments)

    def say(self, sender: int, gid: int = GID, *, client_id: str | None = None) -> asyncio.Future[Stored]:
        """A message to the group, or to a user if `gid` is negative."""
        to = Group(gid) if gid > 0 else Inbox(-gid)
        return self.appender.append(to, str(sender), client_id or f"m{next(_ids)}", 0, True, b"{}")

    async def pull(self, uid: int, cursor: int = 0, limit: int = 1000) -> list[Message]:
        """A whole chain of pulls."""
        found: list[Message] = []
        while True:
            pulled = await self.puller.pull(uid, cursor, limit)
            assert len(pulled.messages) <= limit
            assert pulled.last_id >= cursor
            found += pulled.messages
            cursor = pulled.last_id
            if not pulled.more:
                assert found == sorted(found)
                assert len({message.mid for message in found}) == len(found)
                return found

    async def texts(self, uid: int, limit: int = 1000) -> list[int]:
        """Returns the ids of the users' messages that this user may see."""
        return [message.mid for message in await self.pull(uid, limit=limit) if message.sender != "0"]

    async def controls(self, uid: int) -> list[Control]:
        found = []
        for message in await self.pull(uid):
            if message.sender == "0":
                payload = orjson.loads(message.payload)
                found.append(Control(message.topic, payload["type"].removeprefix("im.group."), payload["body"]))
        return found

    async def changes(self) -> list[tuple[int, str, bool]]:
        """Takes what the list of permissions holds off it, and returns it."""
        found: list[Permission] = []
        while await self.redis.xlen(keys.PERMISSIONS):
            entries = await self.permissions.read(1000)
            for entry in entries:
                if isinstance(entry, Permission):
                    found.append(entry)
                else:
                    while await self.permissions.end_memberships(entry):
                        pass
            await self.permissions.done(entries)
        return [(entry.uid, entry.topic, entry.granted) for entry in found]

    async def archive_all(self) -> None:
        while await self.outbox.length():
            await self.archiver.step()

    async def saved(self) -> dict[bytes, bytes]:
        """Returns all that Redis holds, to be put back by `restore`."""
        found = {}
        async for key in self.redis.scan_iter(match=b"im:*"):
            dumped = await self.redis.dump(key)
            assert dumped is not None
            found[key] = dumped
        return found

    async def restore(self, saved: Mapping[bytes, bytes]) -> None:
        """Redis is as it was, but for the names of its scripts."""
        await self.flush()
        for key, dumped in saved.items():
            await self.redis.restore(key, 0, dumped)

    async def state(self) -> dict[bytes, Any]:
        """All that Redis holds of groups and timelines: what a refusal must not touch."""
        found: dict[bytes, Any] = {}
        async for key in self.redis.scan_iter(match="im:*"):
            if not key.endswith((b":clock", b":seen")):
                # A hash is dumped in an order that changes while it grows.
                is_hash = await self.redis.type(key) == b"hash"
                found[key] = await self.redis.hgetall(key) if is_hash else await self.redis.dump(key)
        return found


def uids(first: int, count: int) -> range:
    return range(first, first + count)


def said(controls: Iterable[Control]) -> list[str]:
    return [control.kind for control in controls]


@pytest.fixture
def limits() -> Limits:
    return Limits(write=500, read=100_000, user=500, groups=1000, made=100, known=False)


@pytest_asyncio.fixture
async def store(redis: RedisClient, redis_server: RedisServer, tmp_path: Path, limits: Limits) -> AsyncIterator[Store]:
    running = Store(redis_server.url, tmp_path, limits)
    await running.start()
    yield running
    await running.stop()
