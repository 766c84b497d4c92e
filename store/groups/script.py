"""Calls `group.lua` and `group_moderate.lua` with their keys and arguments, and interprets their replies."""

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from store.addresses import CommandTopic, Group, Inbox
from store.errors import AccountSpent
from store.events.kinds import WantedEvents
from store.groups.notices import Notice
from store.record import SERVICE, encode_tail
from store.redis import keys
from store.redis.budget import COPY_BYTES, NOT_JUDGED, Budget, account
from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.connection import wait_for_replicas
from store.redis.links import Links
from store.redis.memory import StoreMemory
from store.redis.scripts import Script, script
from store.redis.shards import Shards

MAX_ADMINS = 50

Reply = TypeVar("Reply", "GroupReply", "ModerationReply")


class Limits(NamedTuple):
    """write, read: members of a group of that mode, at most. user: read-mode groups of a user, at most.

    groups: of a user, of both modes; made: those one makes in a day. known: users put only those who have written to
    them into groups.
    """

    write: int
    read: int
    user: int
    groups: int
    made: int
    known: bool

    def members(self, mode: str) -> int:
        """Returns how many members a group of a mode may have."""
        return self.read if mode == "read" else self.write


class Changed(NamedTuple):
    """id: at which the change took effect, 0 if there was nothing to change. repeated: it was done before.

    told: topic to payload of the control messages that were stored now, to be published live.
    """

    id: int
    repeated: bool
    told: Mapping[str, bytes]


class CommandCall(NamedTuple):
    """told: the users concerned, and what each is told. notice: what the group is told.

    received_at: when the broker received it, milliseconds; None if no budget judges it.
    owner, mode, open, name: of a new group; mode: also the new one. successor: who becomes owner as the notice says.
    """

    kind: str
    gid: int
    actor: int
    command_id: str
    told: Mapping[int, Notice | None]
    notice: Notice | None = None
    received_at: int | None = None
    owner: str = ""
    mode: str = ""
    open: bool = False
    name: str = ""
    successor: str = ""


class ModerationCall(NamedTuple):
    """notice: what the group is told. received_at: as in CommandCall.

    members: the users concerned; everybody: whether all are muted. name, open, text (of the group's own notice): what
    they become, None if they stay. on: whether the users become admins. until: when a mute ends, milliseconds; 0 ends
    it now.
    """

    kind: str
    gid: int
    actor: int
    command_id: str
    notice: Notice
    received_at: int | None
    members: tuple[int, ...] = ()
    name: str | None = None
    open: bool | None = None
    text: str | None = None
    on: bool = False
    everybody: bool = False
    until: int = 0


class Succession(NamedTuple):
    """Says that nothing was done, because the notice must say that this user becomes owner."""

    owner: int


class CommandOutcome(StrEnum):
    """The outcome of a command. SUCCESSION: nothing was done; the notice must say that the first uid becomes owner."""

    DONE = "DONE"
    REPEATED = "REPEATED"
    UNCHANGED = "UNCHANGED"
    SUCCESSION = "SUCCESSION"


class GroupReply(NamedTuple):
    """id: of the change, 0 if there is none. noticed: whether the group's notice was written. uids: of those told.

    links: what is to be carried now.
    """

    outcome: CommandOutcome
    id: int
    noticed: bool
    uids: list[int]
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "GroupReply":
        outcome, id_, noticed, uids, links = reply
        entries = [LinkEntry.parse(each) for each in links]
        return cls(CommandOutcome(outcome.decode()), id_, noticed == 1, [int(uid) for uid in uids], entries)


class ModerationOutcome(StrEnum):
    """The outcome of a command of those who moderate a group."""

    DONE = "DONE"
    REPEATED = "REPEATED"
    UNCHANGED = "UNCHANGED"


class ModerationReply(NamedTuple):
    """id: of the change, 0 if there is none. noticed: whether the group's notice was written.

    links: what is to be carried now.
    """

    outcome: ModerationOutcome
    id: int
    noticed: bool
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "ModerationReply":
        outcome, id_, noticed, links = reply
        return cls(ModerationOutcome(outcome.decode()), id_, noticed == 1, [LinkEntry.parse(each) for each in links])


_SCRIPT = script("group", GroupReply)
_LOOK = script("writers_look", list[bytes])
_MODERATE = script("group_moderate", ModerationReply)


class GroupScript:
    def __init__(
        self,
        redis: RedisClient,
        shards: Shards[RedisClient],
        links: Links,
        *,
        window_us: int,
        repeat_seconds: int,
        outbox_limit: int,
        limits: Limits,
        replicas: int,
        budget: Budget,
        memory: StoreMemory | None,
        events: WantedEvents,
    ) -> None:
        """redis: a client of one connection (`connect(…, single=True)`). shards: for questions."""
        self._redis = redis
        self._shards = shards
        self._links = links
        self._window_us = window_us
        self._repeat_seconds = repeat_seconds
        self._outbox_limit = outbox_limit
        self._limits = limits
        self._replicas = replicas
        self._budget = budget
        self._memory = memory
        self._events = events.arguments

    async def run(self, command: CommandCall, highest_id: int) -> Changed | Succession:
        """Runs the script. highest_id: the highest that the caller was given. Raises ChannelRefused,
        SenderOverBudget, StoreError."""
        reply = await self._run(command, highest_id)
        if reply.outcome == CommandOutcome.SUCCESSION:
            return Succession(reply.uids[0])
        told = {}
        for uid in reply.uids:
            if notice := command.told[uid]:
                told[Inbox(uid).topic] = notice[1]
        if reply.noticed and command.notice:
            told[Group(command.gid).topic] = command.notice[1]
        return Changed(reply.id, reply.outcome == CommandOutcome.REPEATED, told)

    async def _run(self, command: CommandCall, highest_id: int) -> GroupReply:
        limits, now, group = self._limits, time.time_ns(), Group(command.gid)
        arguments: list[Any] = []
        for uid, notice in command.told.items():
            arguments += (uid, _tail(Inbox(uid).topic, notice, now))
        return await self._do(
            _SCRIPT,
            command,
            highest_id,
            arguments,
            kicked_key=keys.kicked(command.gid),
            groups_made_key=keys.groups_made(command.actor),
            max_written=limits.write,
            max_read=limits.read,
            max_reading=limits.user,
            max_groups=limits.groups,
            max_made=limits.made,
            known_only=int(limits.known),
            topic=group.topic,
            actor_topic=Inbox(command.actor).topic,
            strangers=" ".join(map(str, await self._strangers(command, now // 1000))),
            new_owner=command.owner,
            new_mode=command.mode,
            new_open=int(command.open),
            new_name=command.name,
            successor=command.successor,
        )

    async def _strangers(self, command: CommandCall, now: int) -> list[int]:
        """Returns those whom the actor puts into the group though they have not written to them, if that is refused and
        the home cannot see it. now: microseconds."""
        actor = command.actor
        invited = [uid for uid in command.told if uid != actor]
        is_judged = self._limits.known and command.kind in ("create", "invite")
        if not is_judged or not invited or actor == 0 or self._shards.number(actor) == 0:
            return []
        reply = await _LOOK.run(
            self._shards.of(actor),
            more_arguments=invited,
            uid=actor,
            own_topic=Inbox(actor).topic,
            caller_time=now,
            window=self._window_us,
        )
        return [*map(int, reply)]

    async def moderate(self, command: ModerationCall, highest_id: int) -> Changed:
        """Runs one command. highest_id: of those the caller was given.

        Raises ChannelRefused, SenderOverBudget, StoreError.
        """
        reply = await self._do(
            _MODERATE,
            command,
            highest_id,
            command.members,
            changing_name=int(command.name is not None),
            new_name=command.name or "",
            changing_open=int(command.open is not None),
            new_open=int(command.open or False),
            changing_notice=int(command.text is not None),
            new_notice=command.text or "",
            on=int(command.on),
            max_admins=MAX_ADMINS,
            everybody=int(command.everybody),
            new_until=command.until,
        )
        told = {Group(command.gid).topic: command.notice[1]} if reply.noticed else {}
        return Changed(reply.id, reply.outcome == ModerationOutcome.REPEATED, told)

    async def _do(
        self,
        run: Script[Reply],
        command: CommandCall | ModerationCall,
        highest_id: int,
        more_arguments: Sequence[Any],
        **values: Any,
    ) -> Reply:
        """Calls a script that includes `group_command.lua`."""
        if self._memory is not None:
            self._memory.require_room()
        group = Group(command.gid)
        actor, now = str(command.actor), time.time_ns()
        charge = self._budget.charge_for_many(actor, command.received_at)
        try:
            reply = await run.run(
                self._redis,
                more_arguments=more_arguments,
                repeat_key=keys.repeat(actor, CommandTopic(group, command.kind).topic, command.command_id),
                group_key=keys.group(command.gid),
                members_key=keys.members(command.gid),
                channel_key=keys.channel(group.channel),
                caller_time=now // 1000,
                window=self._window_us,
                repeat_seconds=self._repeat_seconds,
                outbox_limit=self._outbox_limit,
                highest_id=highest_id,
                command=command.kind,
                gid=command.gid,
                channel=group.channel,
                actor=actor,
                notice=_tail(group.topic, command.notice, now),
                account=account(command.received_at, actor),
                budget_limit=self._budget.limit,
                min_charge=self._budget.min_charge,
                copy_bytes=COPY_BYTES,
                charge="" if charge == NOT_JUDGED else charge,
                **self._events,
                **values,
            )
        except AccountSpent:
            assert command.received_at is not None
            raise self._budget.close(actor, command.received_at) from None
        await wait_for_replicas(self._redis, self._replicas)
        if reply.outcome == CommandOutcome.REPEATED:
            await self._links.reach(reply.id)
        else:
            await self._links.carry(reply.links)
        return reply


def _tail(topic: str, notice: Notice | None, now: int) -> bytes:
    if notice is None:
        return b""
    client_id, payload = notice
    return encode_tail(topic, SERVICE, client_id, now // 1_000_000, True, payload)
