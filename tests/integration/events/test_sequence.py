"""Tests that each event comes, in order, and tells the truth, however a back end and those who deliver fail.

A state machine stores, recalls and edits messages, changes groups, brings devices and takes them away, and lets events
be delivered by processes that die; plain lists say what the back end must have heard.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import orjson
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
from store.archive.outbox import Outbox
from store.errors import StoreAway
from store.events.kinds import EventKind, WantedEvents
from store.events.queues import EventQueues, QueueEntry
from store.groups.context import CommandContext
from store.groups.groups import Groups, Limits
from store.groups.moderation import Moderators
from store.presence.presence import Device, Presence
from store.redis import keys
from store.redis.connection import connect
from store.redis.lease import Lease
from store.redis.scripts import admit
from store.timelines.append import Appender
from store.timelines.replacements import Replacements
from tests.servers import RedisServer

USERS = [1, 2, 3, 5000]
MEMBERS = USERS[:3]
GROUPS = {100: "write", 101: "read"}
NOTICES = GroupControlMessages("hmac")

REPLACEMENTS = ReplacementControlMessages("hmac")
LIMITS = Limits(write=500, read=1000, user=100, groups=100, made=100, known=False)
BOUNDS: dict[str, Any] = {"window_us": 7 * 86_400_000_000, "repeat_seconds": 3600, "outbox_limit": 2**30}

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


class Events(RuleBasedStateMachine):
    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.numbers = itertools.count()
        self.end = FlakyEnd()
        self.online: dict[int, int] = {}
        self.sent: list[tuple[Address, int, int]] = []
        """Address, mid, sender."""
        self.expected: dict[str, list[dict[str, Any]]] = {kind: [] for kind in EventKind}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        self.redis, self.writing = connect(self.server.url), connect(self.server.url, single=True)
        await self.redis.flushall()
        await self.redis.mset({keys.EPOCH: "test"})
        await self.redis.zadd(keys.SEEN, {str(uid): time.time_ns() // 1_000_000 for uid in USERS})
        await admit(self.redis)
        asked = WantedEvents(EventKind, 2**24)
        self.archive = open_archive("sqlite:///:memory:")
        self.appender = Appender(self.redis, **BOUNDS, events=asked)
        self.appender.start()
        self.groups = Groups(self.redis, self.writing, **BOUNDS, limits=LIMITS, events=asked)
        self.moderators = Moderators(self.redis, self.groups)
        self.presence = Presence(self.redis, events=asked)
        outbox = Outbox(self.redis)
        self.replacements = Replacements(
            *(self.writing, self.archive, outbox), **BOUNDS, events=asked, recall_seconds=10**6, edit_seconds=10**6
        )
        for gid, mode in GROUPS.items():
            await self.groups.create(CommandContext(gid, 1, "c", NOTICES), members=MEMBERS, mode=mode)
            self.expect("group.changed", gid=str(gid), change="create")
        await self._begin(EventQueues)

    async def _begin(self, queues: type[EventQueues]) -> None:
        """Another process delivers from now on."""
        await self.redis.delete(keys.EVENTS_LOCK)
        self.delivery = EventDelivery(queues(self.redis), Lease(self.redis, keys.EVENTS_LOCK), self.end, Metrics())
        await self.delivery.keep()

    def expect(self, kind: str, **fields: Any) -> None:
        self.expected[kind].append(fields)

    @rule(sender=users, to=targets)
    def send(self, sender: int, to: Address) -> None:
        if isinstance(to, Group) and sender not in MEMBERS:
            return
        stored = self.run(self._append(sender, to))
        self.sent.append((to, stored, sender))
        self.expect("message.stored", topic=to.topic, mid=stored)
        receivers = [to.uid] if isinstance(to, Inbox) else MEMBERS
        away = {str(uid) for uid in receivers if uid != sender and uid not in self.online}
        if away:
            self.expect("message.offline", topic=to.topic, mid=stored, uids=away)

    async def _append(self, sender: int, to: Address) -> int:
        return (await self.appender.append(to, str(sender), f"m{next(self.numbers)}", 0, True, b"{}")).mid

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), edits=st.booleans())
    def change(self, data: st.DataObject, edits: bool) -> None:
        place = data.draw(st.integers(0, len(self.sent) - 1))
        to, mid, sender = self.sent[place]
        given: dict[str, Any] = {"command_id": f"r{next(self.numbers)}", "sent_at": time.time_ns() // 1_000_000}
        if edits:
            self.run(self.replacements.edit(to, mid, sender, **given, content={"body": "y"}, notices=REPLACEMENTS))
        else:
            self.run(self.replacements.recall(to, mid, sender, **given, notices=REPLACEMENTS))
            del self.sent[place]
        self.expect("message.edited" if edits else "message.recalled", topic=to.topic, mid=mid, by=str(sender))

    @rule(gid=gids)
    def rename(self, gid: int) -> None:
        name = f"n{next(self.numbers)}"
        self.run(self.moderators.update(CommandContext(gid, 1, name, NOTICES), name=name))
        self.expect("group.changed", gid=str(gid), change="update")

    @rule(uid=users)
    def come_or_go(self, uid: int) -> None:
        if at := self.online.pop(uid, None):
            self.run(self.presence.disconnected(Device(uid, f"{uid}-phone", at)))
            self.expect("user.offline", uid=str(uid))
        else:
            self.online[uid] = time.time_ns() // 1_000_000 + next(self.numbers)
            self.run(self.presence.connected(Device(uid, f"{uid}-phone", self.online[uid])))
            self.expect("user.online", uid=str(uid))

    @rule(takes=st.booleans(), dies=st.booleans())
    def deliver(self, takes: bool, dies: bool) -> None:
        self.end.takes = takes
        self.run(self._deliver(dies))

    async def _deliver(self, dies: bool) -> None:
        if dies:
            await self._begin(DyingQueues)
        with contextlib.suppress(ReceiverAway, StoreAway):
            await self.delivery.step()
        if dies:
            await self._begin(EventQueues)

    def teardown(self) -> None:
        if not hasattr(self, "delivery"):
            return
        self.end.takes = True
        self.run(self._all_delivered())
        first: dict[str, dict[str, Any]] = {}
        for event in self.end.heard:
            first.setdefault(event["id"], event)
        for kind, expected in self.expected.items():
            heard = [event for event in first.values() if event["type"] == kind]
            for event in heard:
                if kind == "message.offline":
                    event["uids"] = set(event["uids"])
            assert len(heard) == len(expected)
            told = [{name: event[name] for name in wanted} for event, wanted in zip(heard, expected, strict=True)]
            assert told == expected
        self.runner.close()

    async def _all_delivered(self) -> None:
        queues = EventQueues(self.redis)
        while (await queues.counts()).waiting:
            await self.delivery.step()
        counts = await queues.counts()
        assert (counts.bytes, counts.lost, counts.dropped, counts.oldest) == (0, 0, {}, 0)
        assert counts.sent == sum(map(len, self.expected.values()))
        await self.appender.stop()
        await self.redis.aclose()
        await self.writing.aclose()
        await self.archive.close()


def test_every_event_comes_in_order_and_tells_the_truth(redis_server: RedisServer) -> None:
    machine = type("Machine", (Events,), {"server": redis_server})
    # A failure is shown as it was found: to make it shorter would take minutes.
    steady = settings(max_examples=8, stateful_step_count=50, phases=[Phase.generate])
    run_state_machine_as_test(machine, settings=steady)
