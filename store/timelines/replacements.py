"""Recalling and editing messages: one script call each, in which the message is judged and its body replaced.

Whatever reads a message reads its body, so a pull gives it as it is now. A device that has pulled it before is
told by a control message, which is stored where the message itself would go now.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Unpack

from store.addresses import Address, CommandTopic, Group, Inbox
from store.archive.archive import Archive
from store.archive.outbox import Outbox
from store.errors import AccountSpent, ArchiveAway, ChannelRefused
from store.events.kinds import NO_EVENTS, WantedEvents
from store.groups.notices import Notice
from store.record import SERVICE, encode, encode_tail
from store.redis import keys
from store.redis.batch_script import BatchScript
from store.redis.budget import COPY_BYTES, NOT_JUDGED, UNBOUNDED, Budget, account
from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards
from store.redis.write_bounds import ScriptBounds
from store.timelines.replacement_notices import ReplacementNotices
from store.timelines.spans import span

OPERATOR = 0
"""The actor who may recall anything but control messages, at any time."""

_USERS_WAIT_SECONDS = 1.0
_AWAY_SECONDS = 5.0
"""How long users' commands ask no archive that did not answer."""


class Replaced(NamedTuple):
    """id: of the change. told: topic to payload of the control messages that were stored now, to be published live."""

    id: int
    told: Mapping[str, bytes]


class ReplaceOutcome(StrEnum):
    """The outcome of a command. AUTHOR: nothing was done, as the author has to be told. UNKNOWN: the archive may have
    the message."""

    DONE = "DONE"
    REPEATED = "REPEATED"
    UNCHANGED = "UNCHANGED"
    AUTHOR = "AUTHOR"
    UNKNOWN = "UNKNOWN"


class ReplaceReply(NamedTuple):
    outcome: ReplaceOutcome
    id: int
    noticed: bool
    own_noticed: bool
    author: str
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "ReplaceReply":
        outcome, id_, noticed, own_noticed, author, links = reply
        entries = [LinkEntry.parse(each) for each in links]
        return cls(ReplaceOutcome(outcome.decode()), id_, noticed == 1, own_noticed == 1, author.decode(), entries)


class _Change(NamedTuple):
    """A recall or an edit. oldest: the lowest id the message may have. notice: builds the message to an address.

    payload: what is before and behind the client id in the payload of an edited message.
    """

    verb: str
    to: Address
    mid: int
    actor: int
    command_id: str
    received_at: int | None
    oldest: int
    notice: Callable[[Address], Notice]
    payload: tuple[bytes, bytes] = (b"", b"")


_SCRIPT = script("replace", ReplaceReply)


class Replacements:
    """Raises ChannelRefused, SenderOverBudget, StoreError.

    sent_at: when the broker received the command, milliseconds: by then the time to recall or edit must not be over.
    received_at: the same, or None if no budget judges the command. highest_id: of those it was given.
    """

    def __init__(
        self,
        write_connection: RedisClient,
        archive: Archive,
        outbox: Outbox,
        *,
        recall_seconds: int,
        edit_seconds: int,
        sync_sender: bool = True,
        budget: Budget = UNBOUNDED,
        events: WantedEvents = NO_EVENTS,
        shards: Shards[RedisClient] | None = None,
        **bounds: Unpack[ScriptBounds],
    ) -> None:
        """write_connection, bounds: those of a BatchScript. shards: where there are several."""
        self._script = BatchScript(write_connection, **bounds)
        self._shards = shards or Shards([write_connection])
        self._archive = archive
        self._outbox = outbox
        self._recall_us = recall_seconds * 1_000_000
        self._edit_us = edit_seconds * 1_000_000
        self._sync_sender = sync_sender
        self._budget = budget
        self._events = events.arguments
        self._archive_away_until = 0.0

    @property
    def highest_id(self) -> int:
        """Returns the highest id that was given to it."""
        return self._script.highest_id

    async def recall(
        self,
        to: Address,
        mid: int,
        actor: int,
        *,
        command_id: str,
        sent_at: int,
        received_at: int | None = None,
        notices: ReplacementNotices,
    ) -> Replaced:
        """Takes a message back: its sender, the owner of its group, or OPERATOR. One that was is as it was."""
        oldest = 0 if actor == OPERATOR else sent_at * 1000 - self._recall_us

        def notice(whom: Address) -> Notice:
            return notices.recalled(whom, to, mid, actor)

        return await self._do(_Change("recall", to, mid, actor, command_id, received_at, oldest, notice))

    async def edit(
        self,
        to: Address,
        mid: int,
        actor: int,
        *,
        command_id: str,
        sent_at: int,
        received_at: int | None = None,
        content: Mapping[str, Any],
        notices: ReplacementNotices,
    ) -> Replaced:
        """Gives a message another content, its `type` and `body`: its sender may."""
        oldest = sent_at * 1000 - self._edit_us
        payload = notices.edited_payload(content)

        def notice(whom: Address) -> Notice:
            return notices.edited(whom, to, mid, content)

        return await self._do(_Change("edit", to, mid, actor, command_id, received_at, oldest, notice, payload))

    async def _do(self, change: _Change) -> Replaced:
        """Asks the script, and again with what it lacks: who the author is, and what the archive has."""
        self._script.require_room()
        charge = self._budget.charge_for_many(str(change.actor), change.received_at)
        author = str(change.actor) if change.actor != OPERATOR else ""
        archived, looked = b"", 0
        notice = change.notice(change.to)
        while True:
            own = None
            if author not in ("", SERVICE) and isinstance(change.to, Inbox):
                own = change.notice(Inbox(int(author)))
            reply = await self._run(change, charge, archived, author, notice, own)
            if reply.outcome == ReplaceOutcome.UNKNOWN and self._shards.count > 1 and looked < 2:
                looked += 1
                if looked == 2:
                    # Another change of it may have been on its way.
                    await self._script.reach(time.time_ns())
                if found := await self._in_other_shards(change):
                    archived = found
                    continue
            if reply.outcome == ReplaceOutcome.UNKNOWN and archived and change.actor != OPERATOR:
                # Another change of it is not archived yet.
                raise ChannelRefused("unknown_message")
            if reply.outcome == ReplaceOutcome.UNKNOWN:
                archived = await self._archived(change)
            elif reply.outcome == ReplaceOutcome.AUTHOR:
                author = reply.author
            else:
                break
        if reply.outcome in (ReplaceOutcome.REPEATED, ReplaceOutcome.UNCHANGED):
            await self._script.reach(reply.id)
        await self._script.carry(reply.links)
        self._script.given(reply.id)
        told = {change.to.topic: notice[1]} if reply.noticed else {}
        if reply.own_noticed and own is not None:
            told[Inbox(int(author)).topic] = own[1]
        return Replaced(reply.id, told)

    async def _in_other_shards(self, change: _Change) -> bytes:
        """Returns the message as another shard has it; b"" if none does."""
        to = change.to
        likely = self._shards.number(to.uid if isinstance(to, Inbox) else change.actor)
        for shard in sorted(self._shards.others, key=lambda number: number != likely):
            redis = self._shards[shard]
            record = await redis.hget(redis.key(keys.bodies(span(change.mid))), str(change.mid))
            if record is not None:
                return bytes(record)  # type: ignore[arg-type]
        return b""

    async def _archived(self, change: _Change) -> bytes:
        """Returns the message as the archive has it. Raises ChannelRefused; for operators also ArchiveAway.

        A user's command waits neither for what is not archived yet nor for an archive that is away: others' events
        would wait behind it in the broker, and the message that it names may never have been.
        """
        if change.actor == OPERATOR:
            await self._outbox.caught_up(time.time_ns() // 1000)
            return await self._archived_now(change)
        if time.monotonic() < self._archive_away_until:
            raise ChannelRefused("unknown_message")
        try:
            async with asyncio.timeout(_USERS_WAIT_SECONDS):
                return await self._archived_now(change)
        except (ArchiveAway, TimeoutError):
            self._archive_away_until = time.monotonic() + _AWAY_SECONDS
            raise ChannelRefused("unknown_message") from None

    async def _archived_now(self, change: _Change) -> bytes:
        mid = change.mid
        if any(month.start <= mid < month.edge for month in await self._archive.blocks.aggregated()):
            raise ChannelRefused("aggregated")
        message = await self._archive.message(change.to.conversation, mid)
        if message is None:
            raise ChannelRefused("unknown_message")
        return encode(message)

    async def _run(
        self, change: _Change, charge: int, archived: bytes, author: str, notice: Notice, own: Notice | None
    ) -> ReplaceReply:
        to, actor, now = change.to, str(change.actor), time.time_ns()
        gid = to.gid if isinstance(to, Group) else 0
        before_id, behind_id = change.payload
        try:
            return await self._script.run(
                _SCRIPT,
                repeat_key=keys.repeat(actor, CommandTopic(to, change.verb).topic, change.command_id),
                group_key=keys.group(gid),
                members_key=keys.members(gid),
                channel_key=keys.channel(to.channel or ""),
                repeat_seconds=self._script.repeat_seconds,
                command=change.verb,
                actor=actor,
                kind=_kind(to),
                to=str(to.uid) if isinstance(to, Inbox) else to.channel,
                topic=to.topic,
                mid=change.mid,
                oldest=change.oldest,
                archived=archived,
                before_id=before_id,
                behind_id=behind_id,
                author=author,
                notice=_tail(to.topic, notice, now),
                own_notice=_tail(Inbox(int(author)).topic, own, now) if own is not None else b"",
                own_copies=int(self._sync_sender),
                account=account(change.received_at, actor),
                budget_limit=self._budget.limit,
                min_charge=self._budget.min_charge,
                copy_bytes=COPY_BYTES,
                charge="" if charge == NOT_JUDGED else charge,
                **self._events,
            )
        except AccountSpent:
            assert change.received_at is not None
            raise self._budget.close(actor, change.received_at) from None


def _kind(to: Address) -> str:
    return "inbox" if isinstance(to, Inbox) else "group" if isinstance(to, Group) else "channel"


def _tail(topic: str, notice: Notice, now: int) -> bytes:
    client_id, payload = notice
    return encode_tail(topic, SERVICE, client_id, now // 1_000_000, True, payload)
