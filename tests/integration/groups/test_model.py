"""Any interleaving of commands and messages gives each device what a plain model of groups says.

Two processes answer the pulls, each with hot channels of its own that it knows up to a different moment; they heat and
cool all the time, and some hold so little that pulls often begin below it.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hooks.messaging.replacement_notices import read_report
from store.addresses import GLOBAL, Address, Group, Inbox
from store.errors import ChannelRefused
from store.groups.groups import Limits
from store.record import Message
from store.redis.client import RedisClient
from store.redis.shards import Shards
from store.timelines import hot_channels as hot
from store.timelines.append import Stored
from store.timelines.hot_channels import CacheStats, HotChannels
from store.timelines.pull import Pulled, Puller
from tests.integration.conftest import Place
from tests.integration.groups.conftest import SPREAD, Store
from tests.integration.groups.model import Model

USERS = SPREAD
GIDS = [71, 72, 73, 74]
LIMITS = Limits(write=3, read=4, user=2, groups=3, made=2, known=False)
DEVICES = 2

users = st.sampled_from(USERS)
gids = st.sampled_from(GIDS)
members = st.lists(users, min_size=1, max_size=3)
modes = st.sampled_from(["write", "read"])
moderators = users | st.none()
"""None: the owner."""
texts = st.sampled_from(["", "A", "B\nC"])
limits = st.sampled_from([1, 2, 3, 1000])
processes = st.sampled_from([0, 1])


@dataclass
class Device:
    """A cursor, those it held before, and the ids of the messages it received since its store began."""

    uid: int
    cursor: int = 0
    epoch: str = ""
    held: list[int] = field(default_factory=lambda: [0])
    received: list[str] = field(default_factory=list)


@dataclass
class Written:
    """A message that was stored, as everybody has it now. replaced: by the change of this id; by: who recalled it."""

    to: Address
    sender: int
    client_id: str
    mid: int
    replaced: int = 0
    recalled_by: str = ""
    body: int | None = None


class Members(RuleBasedStateMachine):
    place: Place
    directory: Path
    counts: list[CacheStats]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client_ids = itertools.count()
        self.model = Model(LIMITS)
        self.written: dict[int, Written] = {}
        self.archiving = asyncio.Lock()
        self.unseen = False
        """Nobody is known to have been seen: what they are sent before they pull is in the archive alone."""
        self.devices = [Device(uid) for uid in USERS for _ in range(DEVICES)]
        self.run(self._start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def _start(self) -> None:
        self.store = Store(self.place.url, self.directory, LIMITS, self.place.shards)
        await self.store.start()
        self.hot: list[Shards[HotChannels]] = [self.store.shards.map(self._new_hot) for _ in range(2)]
        self.pullers: list[Puller] = [self.store.new_puller(each) for each in self.hot]

    def _new_hot(self, redis: RedisClient) -> HotChannels:
        return HotChannels(redis, 0.5, read_report, self.counts.append)

    def teardown(self) -> None:
        for number, device in enumerate(self.devices):
            while self._pull(device, number % 2, 1000):
                pass
            assert device.received == [client_id for _, client_id in self.model.seen[device.uid]]
        for process in (0, 1):
            self.let_a_second_pass(process, 1.0)
        self.run(self.store.stop())
        self.runner.close()

    # Commands

    @initialize(more=members, held=st.sampled_from([3, 6, 1000]))
    def begin(self, more: list[int], held: int) -> None:
        """held: messages, about, that a process holds of a hot channel."""
        hot.CHANNEL_BYTES = held * 1200
        self._command("create", 71, 1, members=more, mode="read", open=True)

    @rule(gid=gids, actor=users, more=members, mode=modes, open_=st.booleans())
    def create(self, gid: int, actor: int, more: list[int], mode: str, open_: bool) -> None:
        self._command("create", gid, actor, members=more, mode=mode, open=open_)

    @rule(gid=gids, actor=users, more=members)
    def invite(self, gid: int, actor: int, more: list[int]) -> None:
        self._command("invite", gid, actor, members=more)

    @rule(gid=gids, actor=users)
    def join(self, gid: int, actor: int) -> None:
        self._command("join", gid, actor)

    @rule(gid=gids, actor=users)
    def leave(self, gid: int, actor: int) -> None:
        self._command("leave", gid, actor)

    @rule(gid=gids, actor=users | st.none(), some=members)
    def kick(self, gid: int, actor: int | None, some: list[int]) -> None:
        """Mostly by the owner, as others may not."""
        self._command("kick", gid, actor or self._owner(gid), members=some)

    @rule(gid=gids, actor=users)
    def dismiss(self, gid: int, actor: int) -> None:
        self._command("dismiss", gid, actor)

    @rule(gid=gids, mode=modes)
    def change_mode(self, gid: int, mode: str) -> None:
        self._command("change_mode", gid, self._owner(gid), mode=mode)

    @rule(gid=gids, actor=moderators, name=texts | st.none(), open_=st.booleans() | st.none(), notice=texts | st.none())
    def update(self, gid: int, actor: int | None, name: str | None, open_: bool | None, notice: str | None) -> None:
        self._command("update", gid, actor or self._owner(gid), name=name, open=open_, notice=notice)

    @rule(gid=gids, actor=moderators, to=users)
    def transfer(self, gid: int, actor: int | None, to: int) -> None:
        self._command("transfer", gid, actor or self._owner(gid), to=to)

    @rule(gid=gids, actor=moderators, some=members, on=st.booleans())
    def admin(self, gid: int, actor: int | None, some: list[int], on: bool) -> None:
        self._command("admin", gid, actor or self._owner(gid), members=some, on=on)

    @rule(gid=gids, actor=moderators, some=members | st.none(), seconds=st.sampled_from([0, 0, 86400]))
    def mute(self, gid: int, actor: int | None, some: list[int] | None, seconds: int) -> None:
        self._command("mute", gid, actor or self._owner(gid), members=some, seconds=seconds)

    @rule()
    def look_at_the_groups(self) -> None:
        for gid, group in self.model.groups.items():
            info = self.run(self.store.groups.info(gid))
            assert (info is None) == group.dismissed
            if info is not None:
                assert (info.owner, info.name, info.open) == (group.owner, group.name, group.open)
                moderation = self.run(self.store.moderators.of(gid))
                assert (moderation.notice, list(moderation.admins)) == (group.notice, group.admins)

    def _owner(self, gid: int) -> int:
        group = self.model.groups.get(gid)
        return group.owner if group else 1

    def _command(self, kind: str, gid: int, actor: int, **arguments: Any) -> None:
        told = self.model.command(kind, gid, actor, arguments)
        if isinstance(told, str):
            with pytest.raises(ChannelRefused) as refused:
                self.run(self.store.command(kind, gid, actor, **arguments))
            assert refused.value.code == told
            return
        changed = self.run(self.store.command(kind, gid, actor, **arguments))
        topics = {f"single/{uid}": [uid] for uid in told.users}
        if told.group:
            topics[f"group/{gid}"] = told.group
        assert set(changed.told) == set(topics)
        for place, (topic, payload) in enumerate(changed.told.items(), changed.id + 1):
            self.model.show(topics[topic], place, orjson.loads(payload)["id"])

    # Messages

    def _say(self, sender: int, gid: int) -> tuple[str, asyncio.Future[Stored]]:
        client_id = f"m{next(self.client_ids)}"
        return client_id, self.store.say(sender, gid, client_id=client_id)

    def _note(self, sender: int, gid: int, client_id: str, stored: Stored | BaseException) -> None:
        audience = self.model.audience(gid, sender)
        if isinstance(audience, str):
            assert isinstance(stored, ChannelRefused)
            assert stored.code == audience
        else:
            assert isinstance(stored, Stored)
            self.model.show(audience, stored.mid, client_id)
            self.written[stored.mid] = Written(Group(gid), sender, client_id, stored.mid)

    @rule(said=st.lists(st.tuples(users, gids), min_size=1, max_size=6))
    def say(self, said: list[tuple[int, int]]) -> None:
        async def work() -> Any:
            ids, waiting = zip(*(self._say(sender, gid) for sender, gid in said), strict=True)
            return zip(said, ids, await asyncio.gather(*waiting, return_exceptions=True), strict=True)

        for (sender, gid), client_id, stored in self.run(work()):
            self._note(sender, gid, client_id, stored)

    @rule(sender=users, receiver=users | st.none())
    def say_elsewhere(self, sender: int, receiver: int | None) -> None:
        """To one user, or to all."""
        client_id = f"m{next(self.client_ids)}"
        to = Inbox(receiver) if receiver else GLOBAL

        async def work() -> Stored:
            return await self.store.appender.append(to, str(sender), client_id, 0, True, b"{}")

        mid = self.run(work()).mid
        self.model.show([sender, receiver] if receiver else USERS, mid, client_id)
        self.written[mid] = Written(to, sender, client_id, mid)

    @rule(
        data=st.data(),
        verb=st.sampled_from(["recall", "edit"]),
        actor=users | st.none(),
        newest=st.booleans(),
    )
    def replace(self, data: st.DataObject, verb: str, actor: int | None, newest: bool) -> None:
        """Mostly by the sender; of what went to all, operators recall it."""
        if not self.written:
            return
        mids = sorted(self.written)
        message = self.written[mids[-1] if newest else data.draw(st.sampled_from(mids))]
        by = actor or message.sender
        told = self._judge(verb, message, by)
        if message.to == GLOBAL:
            verb, by = "recall", 0
        if self.unseen:
            # What nobody has in Redis a user's command finds in the archive, and waits for nothing.
            self.run(self.store.archive_all())
        if isinstance(told, str):
            with pytest.raises(ChannelRefused) as refused:
                self.run(self.store.replace(verb, message.to, message.mid, by))
            assert refused.value.code == told
            return
        changed = self.run(self.store.replace(verb, message.to, message.mid, by))
        if message.recalled_by:
            assert (changed.id, changed.told) == (message.replaced, {})
            return
        assert set(changed.told) == set(told)
        for place, (topic, payload) in enumerate(changed.told.items(), changed.id):
            self.model.show(told[topic], place, orjson.loads(payload)["id"])
        message.replaced = changed.id
        message.recalled_by = str(by) if verb == "recall" else ""
        message.body = self.store.last_number if verb == "edit" else None

    def _judge(self, verb: str, message: Written, actor: int) -> dict[str, list[int]] | str:
        """Returns who is told on which topic, or the code of the refusal."""
        to, sender = message.to, message.sender
        if to == GLOBAL:
            return {to.topic: USERS}
        if isinstance(to, Group):
            told = self.model.replace(verb, to.gid, sender, actor, bool(message.recalled_by))
            if isinstance(told, str):
                return told
            return {to.topic: told} if told else {}
        assert isinstance(to, Inbox)
        if actor != sender:
            return "unknown_message"
        if verb == "edit" and message.recalled_by:
            return "recalled"
        return {to.topic: [to.uid]} | {Inbox(sender).topic: [sender]}

    # Pulls

    def _check(self, device: Device, cursor: int, limit: int, pulled: Pulled, acknowledged: set[str]) -> list[str]:
        """The ids of a page: the next ones of what the user sees, with all that was acknowledged before."""
        assert pulled.reset == (device.epoch not in ("", pulled.epoch))
        cursor = 0 if pulled.reset else cursor
        got = [message.client_id for message in pulled.messages]
        after = [(mid, client_id) for mid, client_id in self.model.seen[device.uid] if mid > cursor]
        assert got == [client_id for _, client_id in after[: len(got)]]
        for message in pulled.messages:
            self._check_content(message)
        assert len(got) <= limit
        assert pulled.last_id >= max([cursor, *(message.mid for message in pulled.messages)])
        rest = after[len(got) :]
        assert not [mid for mid, _ in rest if mid <= pulled.last_id]
        if pulled.more:
            assert pulled.last_id > cursor
        else:
            assert not acknowledged & {client_id for _, client_id in rest}
        return got

    def _check_content(self, message: Message) -> None:
        """Users' messages are as they were edited or recalled last."""
        written = self.written.get(message.mid)
        if written is None:
            return
        assert (message.client_id, message.sender) == (written.client_id, str(written.sender))
        assert (message.replaced, message.recalled_by) == (written.replaced, written.recalled_by)
        if written.body is None:
            assert message.payload == (b"" if written.recalled_by else b"{}")
        else:
            content = {"id": written.client_id, "type": "text", "body": written.body}
            assert orjson.loads(message.payload) == content

    def _receive(self, device: Device, pulled: Pulled, got: list[str]) -> None:
        if pulled.reset:
            device.received.clear()
            device.held = [0]
        device.received += got
        device.cursor, device.epoch = pulled.last_id, pulled.epoch
        device.held.append(device.cursor)

    def _acknowledged(self, device: Device) -> set[str]:
        return {client_id for _, client_id in self.model.seen[device.uid]}

    async def _pulled(self, process: int, device: Device, cursor: int, limit: int) -> Pulled:
        """The answer of a process; meanwhile what it has to wait for is archived."""
        pulling = asyncio.create_task(self.pullers[process].pull(device.uid, cursor, limit, device.epoch))
        while self.unseen and not (await asyncio.wait([pulling], timeout=0.02))[0]:
            async with self.archiving:
                await self.store.archive_all()
        return await pulling

    def _pull(self, device: Device, process: int, limit: int) -> bool:
        """Whether there is more."""
        pulled = self.run(self._pulled(process, device, device.cursor, limit))
        got = self._check(device, device.cursor, limit, pulled, self._acknowledged(device))
        self._receive(device, pulled, got)
        return bool(pulled.more)

    @rule(data=st.data(), process=processes, limit=limits)
    def pull_on(self, data: st.DataObject, process: int, limit: int) -> None:
        self._pull(data.draw(st.sampled_from(self.devices)), process, limit)

    @rule(process=processes, limit=limits)
    def pull_a_page_for_everybody_from_the_start(self, process: int, limit: int) -> None:
        """Pulls until every channel that has messages is hot."""
        for device in self.devices[::DEVICES]:
            pulled = self.run(self._pulled(process, device, 0, limit))
            self._check(device, 0, limit, pulled, self._acknowledged(device))
        self.let_a_second_pass(process, 1.0)

    @rule(data=st.data(), process=processes, limit=limits)
    def pull_from_a_cursor_held_before(self, data: st.DataObject, process: int, limit: int) -> None:
        device = data.draw(st.sampled_from(self.devices))
        cursor = data.draw(st.sampled_from(device.held))
        pulled = self.run(self._pulled(process, device, cursor, limit))
        self._check(device, cursor, limit, pulled, self._acknowledged(device))

    @rule(data=st.data(), said=st.lists(st.tuples(users, gids), min_size=1, max_size=6), limit=limits)
    def pull_while_others_send(self, data: st.DataObject, said: list[tuple[int, int]], limit: int) -> None:
        pulling = data.draw(st.lists(st.tuples(st.sampled_from(self.devices), processes), min_size=1, max_size=6))
        known = [self._acknowledged(device) for device, _ in pulling]

        async def work() -> Any:
            ids, waiting = zip(*(self._say(sender, gid) for sender, gid in said), strict=True)
            syncing = asyncio.gather(*(each.step() for hot_ in self.hot for each in hot_))
            pulls = asyncio.gather(*(self._pulled(process, each, each.cursor, limit) for each, process in pulling))
            stored = await asyncio.gather(*waiting, return_exceptions=True)
            await syncing
            return zip(said, ids, stored, strict=True), [(each.cursor, each) for each, _ in pulling], await pulls

        stored, before, pulled = self.run(work())
        for (sender, gid), client_id, each in stored:
            self._note(sender, gid, client_id, each)
        for (cursor, device), page, acknowledged in zip(before, pulled, known, strict=True):
            got = self._check(device, cursor, limit, page, acknowledged)
            if device.cursor == cursor and not page.reset:
                self._receive(device, page, got)

    # What happens to the processes

    @rule(process=processes, seconds=st.sampled_from([1.0, 1.0, 5.0]))
    def let_a_second_pass(self, process: int, seconds: float) -> None:
        self.run(self._step(process, seconds))

    async def _step(self, process: int, seconds: float) -> None:
        await asyncio.gather(*(each.step(seconds) for each in self.hot[process]))

    @rule(empty=st.booleans())
    def begin_another_epoch(self, empty: bool) -> None:
        """Redis is lost, once the archive has everything; or it is only rebuilt."""
        self.run(self._rebuild(empty))

    async def _rebuild(self, empty: bool) -> None:
        await self.store.archive_all()
        if empty:
            await self.store.flush()
            self.model.lose_counts()
            self.unseen = True
        await self.store.recovery.rebuild(max(self.store.appender.highest_id, self.store.groups.highest_id))


def test_every_device_sees_what_the_model_says(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot, "CHANNEL_BYTES", hot.CHANNEL_BYTES)  # each example sets its own
    counts: list[CacheStats] = []
    machine = type("Members", (Members,), {"place": place, "directory": tmp_path, "counts": counts})
    examples = 60 if place.kind == "redis" else 15
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))
    assert sum(second.hits for second in counts) > examples, "pulls were answered by hot channels"
    assert sum(second.older for second in counts) > 0
    assert sum(second.cold for second in counts) > 0
