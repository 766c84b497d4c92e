"""Any interleaving of what the store is asked gives each device each message exactly once, in order.

A state machine makes the moves on a real Redis with a real archive, and plain lists say what must come of them. A new
kind of move is one more rule: it changes the store, and the lists as far as users can tell.
"""

import asyncio
import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from hooks.messaging.replacement_notices import ReplacementControlMessages
from store.addresses import GLOBAL, Inbox, parse_stored
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.cancellation import end
from store.errors import ChannelRefused, EntryFailed
from store.operations.dead_letters import DeadLetters
from store.presence.presence import Device, Presence
from store.record import SERVICE
from store.redis import keys
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.shards import connect_each, resolvers
from store.states.state import UserState, mark
from store.states.states import StateChange, States
from store.timelines.append import Appender, Stored
from store.timelines.pull import Pulled, Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.replacements import OPERATOR, Replaced, Replacements
from store.timelines.sweep import Sweeper
from tests.integration.conftest import Place
from tests.integration.inboxes import break_inbox, inboxes_of, mend_inbox

WINDOW_US = 7 * 86_400_000_000
MOMENT_US = 50_000
"""What Redis keeps once the window has passed."""
USERS = [1, 10_000, 20_000]
"""Where there are three shards, each of them has one."""
BROKEN = 4
"""A user of the home whose inbox cannot be written."""
DEVICES = 2
EVERYBODY = "business/global"

users = st.sampled_from(USERS)
limits = st.sampled_from([1, 2, 3, 1000])


class Sent(NamedTuple):
    """A message as its sender knows it: (sender, topic, client_id) is unique."""

    sender: int
    topic: str
    client_id: str


@dataclass
class Phone:
    """One device: its cursor, those it held before, and what it received since its store began."""

    uid: int
    cursor: int = 0
    epoch: str = ""
    held: list[int] = field(default_factory=lambda: [0])
    received: list[int] = field(default_factory=list)
    states: dict[bytes, UserState] = field(default_factory=dict)


class Sequence(RuleBasedStateMachine):
    place: Place
    directory: Path

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client_ids = itertools.count()
        self.timelines: dict[int, list[int]] = {uid: [] for uid in USERS}
        self.mids: dict[Sent, int] = {}
        self.archived: set[int] = set()
        self.archived_changes: dict[int, tuple[int, str]] = {}
        self.told: set[int] = set()
        """The ids of control messages."""
        self.changed: dict[int, tuple[int, str]] = {}
        """By mid: the id of the newest edit, or of the recall, and who recalled it."""
        self.states: dict[tuple[int, bytes], UserState] = {}
        """By user and name."""
        self.archived_states: dict[tuple[int, bytes], UserState] = {}
        self.devices = [Phone(uid) for uid in USERS for _ in range(DEVICES)]
        self.below_redis = False

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize(unseen=st.booleans())
    def start(self, unseen: bool) -> None:
        """unseen: nobody was seen before their first pull, so what they were sent is in the archive alone."""
        self.below_redis = unseen
        self.run(self._start(unseen))

    async def _start(self, unseen: bool) -> None:
        nodes = resolvers(self.place.url, self.place.shards)
        self.shards = connect_each(nodes)
        self.redis = self.shards.home
        self.links = Links(self.shards, window_us=WINDOW_US)
        await self._flush()
        # A shard has scripts of its own each time it begins; a server that kept them all would have a gigabyte of them.
        for redis in self.shards:
            await redis.script_flush()
        archive_file = tempfile.mkdtemp(dir=self.directory)
        self.archive = open_archive(f"sqlite:///{archive_file}/archive.db")
        await self.archive.migrate()
        self.outbox = Outbox(self.redis)
        self.archiver = Archiver(self.outbox, handlers(self.archive), DeadLetters(self.redis))
        self.recovery = StoreRecovery(self.shards, self.archive, self.archiver, window_us=WINDOW_US, sync_sender=True)
        await self.recovery.ensure()
        if not unseen:
            for uid in USERS:
                redis = self.shards.of(uid)
                await redis.zadd(redis.key(keys.SEEN), {str(uid): time.time_ns() // 1_000_000})
        await self._break_inbox()
        self.appender = Appender(
            self.shards, window_us=WINDOW_US, repeat_seconds=3600, outbox_limit=2**30, links=self.links
        )
        self.appender.start()
        self.puller = Puller(self.shards, self.archive, self.outbox, window_us=WINDOW_US, roaming_us=WINDOW_US)
        self.writing = connect(nodes.home, single=True)
        self.replacements = Replacements(
            *(self.writing, self.archive, self.outbox),
            window_us=WINDOW_US,
            repeat_seconds=3600,
            outbox_limit=2**30,
            recall_seconds=3600,
            edit_seconds=3600,
            shards=self.shards,
            links=self.links,
        )
        self.state_changes = States(
            *(self.writing, self.archive),
            shards=self.shards,
            window_us=WINDOW_US,
            repeat_seconds=3600,
            outbox_limit=2**30,
            links=self.links,
        )

    async def _flush(self) -> None:
        for redis in self.shards:
            await redis.flushall()

    async def _break_inbox(self) -> None:
        await break_inbox(self.redis, BROKEN)

    def teardown(self) -> None:
        if hasattr(self, "appender"):
            for device in self.devices:
                self.pull_to_the_end(device)
                assert device.received == self.timelines[device.uid]
                assert device.states == {name: each for (uid, name), each in self.states.items() if uid == device.uid}
            self.run(self._stop())
        self.runner.close()

    async def _stop(self) -> None:
        await self.appender.stop()
        await self.writing.aclose()
        await self.archive.close()
        await self.links.aclose()
        for redis in self.shards:
            await redis.aclose()

    # What users and the lists know

    def readers(self, message: Sent) -> list[int]:
        if message.topic == EVERYBODY:
            return USERS
        return sorted({message.sender, int(message.topic.removeprefix("single/"))})

    def new(self, sender: int, topic: str) -> Sent:
        return Sent(sender, topic, f"m{next(self.client_ids)}")

    def append(self, message: Sent) -> asyncio.Future[Stored]:
        sender = str(message.sender) if message.topic != EVERYBODY else "ops"
        return self.appender.append(parse_stored(message.topic), sender, message.client_id, 0, True, b"{}")

    def note(self, message: Sent, stored: Stored) -> None:
        """A new message stands at the end of its readers' sequences; a repeat is the message it repeats."""
        if message in self.mids:
            assert stored == Stored(self.mids[message], True)
            return
        assert not stored.repeated
        self.mids[message] = stored.mid
        for uid in self.readers(message):
            assert stored.mid not in self.timelines[uid]
            self.timelines[uid] = sorted([*self.timelines[uid], stored.mid])

    def check(self, device: Phone, cursor: int, limit: int, pulled: Pulled, acknowledged: set[int]) -> list[int]:
        """Returns the mids of an answer: the next ones of the sequence, at least those acknowledged before, nothing
        skipped.
        """
        assert pulled.reset == (device.epoch not in ("", pulled.epoch))
        assert not pulled.truncated
        cursor = 0 if pulled.reset else cursor
        mids = [message.mid for message in pulled.messages]
        for message in pulled.messages:
            if message.sender != SERVICE:
                expected = self.changed.get(message.mid, (0, ""))
                assert (message.replaced, message.recalled_by) == expected
                assert (message.payload == b"") == bool(message.recalled_by)
                assert (message.payload == b"{}") == (expected == (0, ""))
        after = [mid for mid in self.timelines[device.uid] if mid > cursor]
        assert mids == after[: len(mids)]
        passed = [state for (uid, _), state in self.states.items() if uid == device.uid and state.mid > cursor]
        states = sorted(passed, key=attrgetter("mid"))
        assert list(pulled.states) == [state for state in states if state.mid <= pulled.last_id]
        if not self.below_redis:
            assert len(mids) + len(pulled.states) <= limit
        assert len(mids) <= limit
        assert pulled.last_id >= max([cursor, *mids])
        assert not [mid for mid in after[len(mids) :] if mid <= pulled.last_id]
        if pulled.more:
            assert pulled.last_id > cursor
        else:
            assert set(mids) >= acknowledged & set(after)
            assert len(pulled.states) == len(states)
        return mids

    def receive(self, device: Phone, pulled: Pulled, mids: list[int]) -> None:
        if pulled.reset:
            device.received.clear()
            device.held = [0]
        device.received += mids
        device.cursor, device.epoch = pulled.last_id, pulled.epoch
        device.held.append(device.cursor)
        if pulled.reset:
            device.states.clear()
        device.states |= {state.name: state for state in pulled.states}

    async def pull(self, device: Phone, cursor: int, limit: int) -> Pulled:
        return await self.puller.pull(device.uid, cursor, limit, device.epoch)

    def pull_once(self, device: Phone, limit: int) -> bool:
        """Returns whether there is more."""
        if self.below_redis:
            # What lies below Redis's part is read from the archive, once it is there.
            self.carry_into_the_archive()
        known = set(self.timelines[device.uid])
        pulled = self.run(self.pull(device, device.cursor, limit))
        self.receive(device, pulled, self.check(device, device.cursor, limit, pulled, known))
        return bool(pulled.more)

    def pull_to_the_end(self, device: Phone) -> None:
        while self.pull_once(device, 1000):
            pass

    # Moves

    @rule(target=sent, sender=users, receiver=users)
    def send_to_one(self, sender: int, receiver: int) -> Sent:
        return self.send(self.new(sender, f"single/{receiver}"))

    @rule(target=sent, sender=users)
    def send_to_all(self, sender: int) -> Sent:
        return self.send(self.new(sender, EVERYBODY))

    def send(self, message: Sent) -> Sent:
        highest = max(self.mids.values(), default=0)
        self.note(message, self.run(self._appended(message)))
        assert self.mids[message] > highest
        return message

    async def _appended(self, message: Sent) -> Stored:
        return await self.append(message)

    @rule(message=sent)
    def send_again(self, message: Sent) -> None:
        self.note(message, self.run(self._appended(message)))

    @rule(
        target=sent, pairs=st.lists(st.tuples(users, users | st.none()), min_size=2, max_size=12), again=st.booleans()
    )
    def send_many_at_once(self, pairs: list[tuple[int, int | None]], again: bool) -> Any:
        messages = [self.new(s, f"single/{r}" if r else EVERYBODY) for s, r in pairs]
        asked = messages * 2 if again else messages

        async def appended() -> list[Stored]:
            return await asyncio.gather(*map(self.append, asked))

        answers = defaultdict(set)
        for message, stored in zip(asked, self.run(appended()), strict=True):
            answers[message].add(stored)
        for message, stored_ in answers.items():
            assert len({stored.mid for stored in stored_}) == 1
            self.note(message, next(stored for stored in stored_ if not stored.repeated))
        return multiple(*messages)

    @rule(target=sent, sender=users, receiver=users, broken_sends=st.booleans())
    def send_beside_one_that_fails(self, sender: int, receiver: int, broken_sends: bool) -> Sent:
        bad = self.new(BROKEN, f"single/{receiver}") if broken_sends else self.new(sender, f"single/{BROKEN}")
        good = self.new(sender, f"single/{receiver}")

        async def appended() -> Any:
            return await asyncio.gather(self.append(bad), self.append(good), self.append(bad), return_exceptions=True)

        first, stored, second = self.run(appended())
        block = self.states.get((receiver, f"b:{BROKEN}".encode()))
        refused = ChannelRefused if broken_sends and block is not None and block.value else EntryFailed
        assert isinstance(first, refused)
        assert isinstance(second, refused)
        self.note(good, stored)
        return good

    @rule(message=sent, verb=st.sampled_from(["recall", "edit"]))
    def replace(self, message: Sent, verb: str) -> None:
        """By the sender; by operators, if it went to everybody."""
        mid = self.mids.get(message)
        if mid is None:
            return  # it was lost with Redis
        if self.below_redis:
            # A user's command finds in the archive what nobody has in Redis, and waits for nothing.
            self.carry_into_the_archive()
        actor = OPERATOR if message.topic == EVERYBODY else message.sender
        verb = "recall" if actor == OPERATOR else verb
        _, recalled_by = self.changed.get(mid, (0, ""))
        if recalled_by and verb == "edit":
            with pytest.raises(ChannelRefused, match="recalled"):
                self.run(self._replaced(verb, message, mid, actor))
            return
        done = self.run(self._replaced(verb, message, mid, actor))
        if recalled_by:
            assert (done.id, done.told) == (self.changed[mid][0], {})
            return
        self.changed[mid] = done.id, str(actor) if verb == "recall" else ""
        assert set(done.told) == {message.topic} | ({f"single/{actor}"} if actor != OPERATOR else set())
        for place, topic in enumerate(done.told, done.id):
            for uid in USERS if topic == EVERYBODY else [int(topic.removeprefix("single/"))]:
                self.timelines[uid] = sorted([*self.timelines[uid], place])
            self.told.add(place)

    def note_states(self, done: StateChange) -> None:
        for uid, state in done.changed:
            self.states[uid, state.name] = state

    def command(self) -> str:
        return f"c{next(self.client_ids)}"

    @rule(user=users, key=st.sampled_from(["a", "b"]), value=st.sampled_from([1, 2, None]))
    def set(self, user: int, key: str, value: int | None) -> None:
        self.note_states(self.run(self.state_changes.set(user, key, value, command_id=self.command())))

    @rule(user=users, on=st.booleans())
    def block(self, user: int, on: bool) -> None:
        self.note_states(self.run(self.state_changes.block(user, BROKEN, on=on, command_id=self.command())))

    @rule(user=users, message=sent)
    def read(self, user: int, message: Sent) -> None:
        """The peer is told where they sent the message."""
        private = message.topic == f"single/{user}"
        if message not in self.mids or (self.below_redis and private):
            return  # what the archive says of the sender depends on what is archived already
        to = Inbox(message.sender) if private else parse_stored(message.topic)
        mid = self.mids[message]
        known = self.states.get((user, mark(to.topic, mid).name))
        done = self.run(self.state_changes.read(user, to, mid, command_id=self.command()))
        if known is None or int(known.value) < mid:
            assert done.changed[0] == (user, mark(to.topic, mid)._replace(mid=done.id))
        else:
            assert done == (known.mid, ())
        self.note_states(done)

    async def _replaced(self, verb: str, message: Sent, mid: int, actor: int) -> Replaced:
        number = next(self.client_ids)
        common: Any = {"command_id": f"c{number}", "sent_at": time.time_ns() // 1_000_000}
        common["notices"] = ReplacementControlMessages("secret")
        if verb == "recall":
            return await self.replacements.recall(parse_stored(message.topic), mid, actor, **common)
        content = {"type": "text", "body": number}
        return await self.replacements.edit(parse_stored(message.topic), mid, actor, **common, content=content)

    @rule(data=st.data(), limit=limits)
    def pull_on(self, data: st.DataObject, limit: int) -> None:
        self.pull_once(data.draw(st.sampled_from(self.devices)), limit)

    @rule(data=st.data(), limit=limits)
    def pull_again_from_a_cursor_held_before(self, data: st.DataObject, limit: int) -> None:
        device = data.draw(st.sampled_from(self.devices))
        cursor = data.draw(st.sampled_from(device.held))
        if self.below_redis:
            self.carry_into_the_archive()
        known = set(self.timelines[device.uid])
        self.check(device, cursor, limit, self.run(self.pull(device, cursor, limit)), known)

    @rule(target=sent, data=st.data(), pairs=st.lists(st.tuples(users, users), min_size=1, max_size=8), limit=limits)
    def pull_while_others_send(self, data: st.DataObject, pairs: list[tuple[int, int]], limit: int) -> Any:
        messages = [self.new(sender, f"single/{receiver}") for sender, receiver in pairs]
        pulling = data.draw(st.lists(st.sampled_from(self.devices), min_size=1, max_size=4, unique_by=id))
        if self.below_redis:
            self.carry_into_the_archive()
            for device in pulling:
                self.pull_once(device, limit)
        known = {uid: set(mids) for uid, mids in self.timelines.items()}

        async def work() -> tuple[list[Stored], list[Pulled]]:
            pulls = (self.pull(device, device.cursor, limit) for device in pulling)
            archiving = asyncio.create_task(self._keep_archiving()) if self.below_redis else None
            stored, pulled = await asyncio.gather(asyncio.gather(*map(self.append, messages)), asyncio.gather(*pulls))
            if archiving is not None:
                await end(archiving)
            return stored, pulled

        stored, pulled = self.run(work())
        for message, each in zip(messages, stored, strict=True):
            self.note(message, each)
        if self.below_redis:
            self.carry_into_the_archive()
        for device, answer in zip(pulling, pulled, strict=True):
            self.receive(device, answer, self.check(device, device.cursor, limit, answer, known[device.uid]))
        return multiple(*messages)

    @rule()
    def carry_into_the_archive(self) -> None:
        self.run(self._archive_all())
        self._note_archived()

    def _note_archived(self) -> None:
        self.archived |= set(self.mids.values()) | self.told
        self.archived_changes = dict(self.changed)
        self.archived_states = dict(self.states)

    async def _archive_all(self) -> None:
        while await self.outbox.length():
            await self.archiver.step()

    async def _keep_archiving(self) -> None:
        while True:
            await self._archive_all()
            await asyncio.sleep(0.005)

    @rule(ids_stay=st.booleans())
    def let_the_window_pass(self, ids_stay: bool) -> None:
        """Redis keeps but a moment from here on and trims what is older: pulls begin in the archive and cross over.

        ids_stay: only the bodies have gone yet.
        """
        self.carry_into_the_archive()
        self.run(self._trim(ids_stay))
        self.puller = Puller(self.shards, self.archive, self.outbox, window_us=MOMENT_US, roaming_us=WINDOW_US)
        self.below_redis = True

    async def _trim(self, ids_stay: bool) -> None:
        edge = time.time_ns() // 1000 - MOMENT_US
        for redis in self.shards:
            async for bodies in redis.scan_iter(match=redis.key(keys.BODIES_PREFIX) + b"*"):
                if old := [mid for mid in await redis.hkeys(bodies) if int(mid) < edge]:
                    await redis.hdel(bodies, *old)
            inboxes = [inbox for uid in USERS for inbox in await inboxes_of(redis, uid)]
            for timeline in (*inboxes, redis.key(keys.channel(GLOBAL.channel))):
                if not ids_stay:
                    await redis.zremrangebyscore(timeline, "-inf", edge)

    @rule(user=users)
    def connect(self, user: int) -> None:
        self.run(Presence(self.shards).connected(Device(user, f"{user}-phone", time.time_ns() // 1_000_000)))

    @rule()
    def look_after_the_links(self) -> None:
        self.run(self.links.step())

    @rule()
    def let_everybody_sleep(self) -> None:
        """Makes all users dormant; the next pull of each makes them active."""
        self.run(Sweeper(self.shards, zombie_days=-1, window_us=WINDOW_US, roaming_us=WINDOW_US).sweep())
        self.below_redis = True

    @rule()
    def rebuild_what_is_there(self) -> None:
        """Nothing is lost, archived or not, and every device is told."""
        self.run(self._rebuild())
        self._note_archived()

    async def _rebuild(self) -> None:
        await mend_inbox(self.redis, BROKEN)
        await self.recovery.rebuild()
        await self._break_inbox()

    @rule()
    def lose_redis(self) -> None:
        """Redis is empty: what the archive has is put back, the rest is lost, and every device is told."""
        self.run(self._wipe())
        for uid, mids in self.timelines.items():
            self.timelines[uid] = [mid for mid in mids if mid in self.archived]
        self.mids.clear()
        self.changed = dict(self.archived_changes)
        self.states = dict(self.archived_states)

    async def _wipe(self) -> None:
        self.below_redis = True  # Nobody is seen any more.
        await self._flush()
        await self.recovery.ensure(
            max(writer.highest_id for writer in (self.appender, self.replacements, self.state_changes))
        )
        await self._break_inbox()


def test_each_device_receives_each_message_once_and_in_order(place: Place, tmp_path: Path) -> None:
    machine = type("Sequence", (Sequence,), {"place": place, "directory": tmp_path})
    # A store of three shards takes four times as long to begin.
    examples = (100 if place.shards == 1 else 50) if place.kind == "redis" else 25
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=30))
