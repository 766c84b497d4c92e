"""Tests that each event comes, in order, and tells the truth, however a back end and those who deliver fail.

A state machine stores, recalls and edits messages, changes groups, brings devices and takes them away, kills, empties,
rebuilds and sets back Redis, and lets events be delivered by processes that die; plain lists say what the back end must
have heard, of each shard. Only what waits when Redis is lost may be missing, and that is counted.
"""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from hooks.events.delivery import EventDelivery
from hooks.events.receiver import ReceiverAway
from hooks.messaging.group_notices import GroupControlMessages
from hooks.messaging.replacement_notices import ReplacementControlMessages
from hooks.metrics import Metrics
from store.addresses import Address, Group, Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.errors import LeaseLost, StoreAway
from store.events.kinds import EventKind, WantedEvents
from store.events.queues import EventQueues, QueueEntry
from store.groups.context import CommandContext
from store.groups.groups import Groups, Limits
from store.groups.moderation import Moderators
from store.operations.dead_letters import DeadLetters
from store.presence.presence import Device, Presence
from store.redis import keys
from store.redis.connection import connect
from store.redis.lease import delivering
from store.redis.links import Links
from store.redis.shards import connect_each, resolvers
from store.timelines.append import Appender
from store.timelines.recovery import StoreRecovery
from store.timelines.replacements import Replacements
from tests.servers import RedisServer, program

USERS = [1, 10_000, 20_000, 2]
MEMBERS = USERS[:3]
"""Where there are three shards, each of them has one."""
GROUPS = {100: "write", 101: "read"}
NOTICES = GroupControlMessages("hmac")

REPLACEMENTS = ReplacementControlMessages("hmac")
LIMITS = Limits(write=500, read=1000, user=100, groups=100, made=100, known=False)
BOUNDS: dict[str, Any] = {"window_us": 7 * 86_400_000_000, "repeat_seconds": 3600, "outbox_limit": 2**30}

Work = Callable[[], Awaitable[Any]]
Stream = tuple[str, int]
"""A kind of events, and the shard that tells of them: its events come in order."""

users, gids = st.sampled_from(USERS), st.sampled_from(sorted(GROUPS))
targets = st.one_of(users.map(Inbox), gids.map(Group))


class FlakyEnd:
    """A back end that takes the next batches, or does not."""

    digest = "flaky"

    def __init__(self) -> None:
        self.takes = True
        self.heard: list[dict[str, Any]] = []

    async def deliver(self, events: Sequence[bytes]) -> None:
        if not self.takes:
            raise ReceiverAway("503", "answers 503")
        self.heard += map(orjson.loads, events)


class DyingQueues(EventQueues):
    """Those of a process that dies before it can say what was taken."""

    async def delivered(self, entries: Sequence[QueueEntry]) -> int:
        raise StoreAway("killed")


class Copy(NamedTuple):
    """Redis at some moment. told: how many events of each stream there were by then. online: since when."""

    files: Path
    told: dict[Stream, int]
    online: dict[int, int]


class Events(RuleBasedStateMachine):
    server: RedisServer
    directory: Path
    count: int
    """How many shards there are."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.numbers = itertools.count()
        self.end = FlakyEnd()
        self.online: dict[int, int] = {}
        self.sent: list[tuple[Address, int, int]] = []
        """Address, mid, sender."""
        self.expected: dict[Stream, list[dict[str, Any]]] = {
            (kind, shard): [] for kind in EventKind for shard in range(self.count)
        }
        self.copy: Copy | None = None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def do(self, work: Work) -> Any:
        """Does it again while Redis is away, as the broker does that gets no answer."""
        return self.run(self._done(work))

    async def _done(self, work: Work) -> Any:
        async with asyncio.timeout(20):
            while True:
                try:
                    return await work()
                except StoreAway:
                    await asyncio.sleep(0.01)

    @initialize()
    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        nodes = resolvers(self.server.url, self.count)
        self.shards = connect_each(nodes)
        self.writing = connect(nodes.home, single=True)
        self.redis = self.shards.home
        await self.redis.flushall()
        asked = WantedEvents(EventKind, 2**24)
        self.archive = open_archive(f"sqlite:///{tempfile.mkdtemp(dir=self.directory)}/archive.db")
        await self.archive.migrate()
        outbox = Outbox(self.redis)
        self.archiver = Archiver(outbox, handlers(self.archive), DeadLetters(self.redis))
        window_us: int = BOUNDS["window_us"]
        self.recovery = StoreRecovery(self.shards, self.archive, self.archiver, window_us=window_us, sync_sender=True)
        self.links = Links(self.shards, window_us=window_us)
        bounds: Any = {**BOUNDS, "links": self.links, "events": asked}
        self.appender = Appender(self.shards, **bounds)
        self.appender.start()
        self.groups = Groups(self.shards, self.writing, **bounds, limits=LIMITS)
        self.moderators = Moderators(self.redis, self.groups)
        self.presence = Presence(self.shards, events=asked)
        self.replacements = Replacements(
            *(self.writing, self.archive, outbox),
            **bounds,
            recall_seconds=10**6,
            edit_seconds=10**6,
            shards=self.shards,
        )
        await self._ensure()
        for gid, mode in GROUPS.items():
            await self.groups.create(CommandContext(gid, 1, "c", NOTICES), members=MEMBERS, mode=mode)
            self.expect("group.changed", gid=str(gid), change="create")
        await self._begin(EventQueues)

    async def _ensure(self) -> None:
        """Redis is used, after a rebuild where it needs one."""
        given = (self.appender, self.replacements, self.groups)
        await self.recovery.ensure(max(writer.highest_id for writer in given))
        for redis, uids in self.shards.parts(USERS, int):
            await redis.zadd(redis.key(keys.SEEN), {str(uid): time.time_ns() // 1_000_000 for uid in uids})

    async def _begin(self, queues: type[EventQueues]) -> None:
        """Another process delivers from now on."""
        await self._end_leases()
        self.deliveries = [
            EventDelivery(queues(redis, shard), delivering(redis), self.end, Metrics())
            for shard, redis in enumerate(self.shards)
        ]
        await self._keep()

    async def _end_leases(self) -> None:
        for redis in self.shards:
            await redis.delete(redis.key(keys.EVENTS_LOCK))

    async def _keep(self) -> None:
        for delivery in self.deliveries:
            await self._done(delivery.keep)

    def expect(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, **fields}
        self.expected[self.stream(event)].append(event)

    def stream(self, event: dict[str, Any]) -> Stream:
        """Returns where an event belongs: of users their own shard tells, of all else the home."""
        named = event["uids"] if "uids" in event else [event["uid"]] if "uid" in event else []
        (shard,) = {self.shards.number(int(uid)) for uid in named} or {0}
        return event["type"], shard

    @rule(sender=users, to=targets)
    def send(self, sender: int, to: Address) -> None:
        if isinstance(to, Group) and sender not in MEMBERS:
            return
        stored = self.append(sender, to, f"m{next(self.numbers)}")
        self.sent.append((to, stored, sender))
        self.expect("message.stored", topic=to.topic, mid=stored)
        receivers = [to.uid] if isinstance(to, Inbox) else MEMBERS
        away = [uid for uid in receivers if uid != sender and uid not in self.online]
        for _, uids in self.shards.parts(away, int):
            self.expect("message.offline", topic=to.topic, mid=stored, uids={*map(str, uids)})

    def append(self, sender: int, to: Address, name: str) -> int:
        """The service is asked twice, as it died before it answered the first time."""

        async def asked() -> int:
            return (await self.appender.append(to, str(sender), name, 0, True, b"{}")).mid

        first: int = self.do(asked)
        assert self.do(asked) == first
        return first

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), edits=st.booleans())
    def change(self, data: st.DataObject, edits: bool) -> None:
        place = data.draw(st.integers(0, len(self.sent) - 1))
        to, mid, sender = self.sent[place]
        given: dict[str, Any] = {"command_id": f"r{next(self.numbers)}", "sent_at": time.time_ns() // 1_000_000}
        if edits:
            given["content"] = {"body": "y"}
            self.do(lambda: self.replacements.edit(to, mid, sender, **given, notices=REPLACEMENTS))
        else:
            self.do(lambda: self.replacements.recall(to, mid, sender, **given, notices=REPLACEMENTS))
            del self.sent[place]
        self.expect("message.edited" if edits else "message.recalled", topic=to.topic, mid=mid, by=str(sender))

    @rule(gid=gids)
    def rename(self, gid: int) -> None:
        name = f"n{next(self.numbers)}"
        self.do(lambda: self.moderators.update(CommandContext(gid, 1, name, NOTICES), name=name))
        self.expect("group.changed", gid=str(gid), change="update")

    @rule(uid=users)
    def come_or_go(self, uid: int) -> None:
        if at := self.online.pop(uid, None):
            self.do(lambda: self.presence.disconnected(Device(uid, f"{uid}-phone", at)))
            self.expect("user.offline", uid=str(uid))
        else:
            self.online[uid] = time.time_ns() // 1_000_000 + next(self.numbers)
            self.do(lambda: self.presence.connected(Device(uid, f"{uid}-phone", self.online[uid])))
            self.expect("user.online", uid=str(uid))

    @rule(takes=st.booleans(), dies=st.booleans())
    def deliver(self, takes: bool, dies: bool) -> None:
        self.end.takes = takes
        self.run(self._deliver(dies))

    async def _deliver(self, dies: bool) -> None:
        if dies:
            await self._begin(DyingQueues)
        for delivery in self.deliveries:
            with contextlib.suppress(ReceiverAway, StoreAway):
                await delivery.step()
        if dies:
            await self._begin(EventQueues)

    @rule(what=st.sampled_from(["kill", "rebuild", "lose", "copy", "set back"]))
    def trouble_redis(self, what: str) -> None:
        match what:
            case "kill":
                self.server.kill()
                self.server.start()
                self.do(self._ensure)
            case "rebuild":
                self.do(self.recovery.rebuild)
            case "lose":
                self._lose(self._empty, dict.fromkeys(self.expected, 0), {})
                # Its counts are of another life.
                self.copy = None
            case "copy":
                self._copy()
            case "set back" if self.copy is not None:
                self._lose(self._set_back, self.copy.told, self.copy.online)

    def _copy(self) -> None:
        """Notes what Redis has on disk."""
        files = Path(tempfile.mkdtemp(dir=self.directory))
        self.server.hang()
        shutil.copytree(self.server.directory, files, dirs_exist_ok=True)
        self.server.resume()
        told = {stream: len(events) for stream, events in self.expected.items()}
        self.copy = Copy(files, told, dict(self.online))

    async def _empty(self) -> None:
        await self.redis.flushall()

    async def _set_back(self) -> None:
        """Redis is what it was when it was copied."""
        assert self.copy is not None
        self.server.kill()
        shutil.rmtree(self.server.directory)
        shutil.copytree(self.copy.files, self.server.directory)
        self.server.start()
        # The lease of that time has run out by now.
        await self._done(self._end_leases)

    def _lose(
        self, lose: Callable[[], Coroutine[Any, Any, None]], told: dict[Stream, int], online: dict[int, int]
    ) -> None:
        """Loses what was not delivered and is not in the Redis that follows. Messages are archived by then."""
        self.run(self.archiver.archive_all(_nothing))
        self.run(self._keep())
        queues = EventQueues(self.shards)
        waiting = self.do(queues.counts).waiting
        self.run(lose())
        heard = self.check_heard(complete=False)
        lost = 0
        for stream, expected in self.expected.items():
            lost += len(expected[max(heard[stream], told[stream]) :])
            del expected[max(heard[stream], told[stream]) :]
        self.online = dict(online)
        self.do(self._ensure)
        before = self.do(queues.counts).lost
        self.run(self._looked())
        # What was taken by a back end, but not out of Redis, is counted too.
        assert lost <= self.do(queues.counts).lost - before <= waiting

    async def _looked(self) -> None:
        """The process that delivers has noticed."""
        for delivery in self.deliveries:
            with contextlib.suppress(LeaseLost):
                await self._done(delivery.keep)
        await self._keep()

    def check_heard(self, *, complete: bool) -> dict[Stream, int]:
        """What was heard is what was expected, in order: all of it, or as far as it goes. Returns how much, by
        stream.
        """
        first: dict[str, dict[str, Any]] = {}
        for event in self.end.heard:
            first.setdefault(event["id"], event)
        streams: dict[Stream, list[dict[str, Any]]] = {stream: [] for stream in self.expected}
        for event in first.values():
            streams[self.stream(event)].append(event)
        for stream, heard in streams.items():
            wanted = self.expected[stream] if complete else self.expected[stream][: len(heard)]
            assert len(heard) == len(wanted)
            told = [{name: event[name] for name in each} for event, each in zip(heard, wanted, strict=True)]
            for event in told:
                if "uids" in event:
                    event["uids"] = set(event["uids"])
            assert told == wanted
        return {stream: len(heard) for stream, heard in streams.items()}

    def teardown(self) -> None:
        if not hasattr(self, "deliveries"):
            return
        self.end.takes = True
        self.run(self._all_delivered())
        self.check_heard(complete=True)
        self.runner.close()

    async def _all_delivered(self) -> None:
        queues = EventQueues(self.shards)
        while waited := (await self._done(queues.counts)).waiting:
            for delivery in self.deliveries:
                await self._done(delivery.step)
            assert (await self._done(queues.counts)).waiting < waited
        counts = await queues.counts()
        assert (counts.bytes, counts.dropped, counts.oldest) == (0, {}, 0)
        await self.appender.stop()
        await self.links.aclose()
        for redis in self.shards:
            await redis.aclose()
        await self.writing.aclose()
        await self.archive.close()


async def _nothing() -> None:
    pass


@pytest.mark.parametrize("count", [1, 3], ids=["one shard", "three shards"])
def test_every_event_comes_in_order_and_tells_the_truth(tmp_path: Path, count: int) -> None:
    server = RedisServer(tmp_path / "redis", program("redis-server"))
    server.start()
    machine = type("Machine", (Events,), {"server": server, "directory": tmp_path, "count": count})
    # A failure is shown as it was found: to make it shorter would take minutes.
    steady = settings(max_examples=8, stateful_step_count=50, phases=[Phase.generate])
    try:
        run_state_machine_as_test(machine, settings=steady)
    finally:
        server.kill()
