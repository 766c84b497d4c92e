"""Changes a user's states: one script call each, in which the change is judged, gets its id and is written.

Only the newest value of each state counts; a pull returns those that changed after its cursor. The peer of a private
conversation is told how far it was read by a state of their own.
"""

import asyncio
import time
from enum import StrEnum
from typing import Any, NamedTuple, Unpack
from weakref import WeakValueDictionary

from store.addresses import Address, CommandTopic, Group, Inbox, Tag
from store.archive.archive import Archive
from store.errors import AccountSpent, ArchiveAway
from store.redis import keys
from store.redis.batch_script import BatchScript
from store.redis.budget import NOT_JUDGED, UNBOUNDED, Budget, account
from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards
from store.redis.write_bounds import ScriptBounds
from store.states.state import UserState, block, mark, peers_mark, setting

MAX_MARKS = 10_000
MAX_SETTINGS = 1000
MAX_BLOCKS = 5000

_ARCHIVE_SECONDS = 1.0
_AWAY_SECONDS = 5.0
"""How long commands ask no archive that did not answer."""


class StateOutcome(StrEnum):
    """What became of a command. UNKNOWN: nothing, as the archive has to be asked. AGAIN: nothing, as the users' shards
    have to be looked at again."""

    DONE = "DONE"
    REPEATED = "REPEATED"
    UNCHANGED = "UNCHANGED"
    UNKNOWN = "UNKNOWN"
    AGAIN = "AGAIN"


class StateReply(NamedTuple):
    outcome: StateOutcome
    id: int
    told: bool
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "StateReply":
        outcome, id_, told, links = reply
        entries = [LinkEntry.parse(each) for each in links]
        return cls(StateOutcome(outcome.decode()), int(id_), told == 1, entries)


class StateChange(NamedTuple):
    """id: of the change, 0 if there was nothing to change. changed: the states that changed now, and whose."""

    id: int
    changed: tuple[tuple[int, UserState], ...]


class _Change(NamedTuple):
    """A user's command. peers: what the peer of a private conversation may be told."""

    uid: int
    to: Address
    verb: str
    state: UserState
    command_id: str
    received_at: int | None
    peers: tuple[int, UserState] | None = None

    @property
    def channel(self) -> str:
        return self.to.channel or "" if isinstance(self.to, Group | Tag) else ""


_SCRIPT = script("state", StateReply)
_LOOK = script("state_look", bytes)


class States:
    """Commands raise ChannelRefused, SenderOverBudget, StoreError.

    command_id: by which a repeat is recognised. received_at: when the broker received the command, milliseconds;
    without it no budget judges it. highest_id: of those it was given; a store whose clock is below it has lost them.
    """

    def __init__(
        self,
        write_connection: RedisClient,
        archive: Archive,
        *,
        receipts: bool = True,
        budget: Budget = UNBOUNDED,
        shards: Shards[RedisClient] | None = None,
        **bounds: Unpack[ScriptBounds],
    ) -> None:
        """write_connection, bounds: those of a BatchScript. receipts: whether peers are told. shards: where there are
        several."""
        self._script = BatchScript(write_connection, **bounds)
        self._shards = shards or Shards([write_connection])
        self._window_us = bounds["window_us"]
        self._archive = archive
        self._receipts = receipts
        self._budget = budget
        self._archive_away_until = 0.0
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    @property
    def highest_id(self) -> int:
        """Returns the highest id that was given to it."""
        return self._script.highest_id

    async def read(
        self, uid: int, to: Address, mid: int, *, command_id: str, received_at: int | None = None
    ) -> StateChange:
        """Marks a conversation as read up to `mid`. to: a peer, group, tag or everybody. The highest mark stays."""
        peers = None
        if self._receipts and isinstance(to, Inbox) and to.uid != uid:
            peers = (to.uid, peers_mark(uid, mid))
        return await self._do(_Change(uid, to, "read", mark(to.topic, mid), command_id, received_at, peers))

    async def set(
        self, uid: int, key: str, value: Any, *, command_id: str, received_at: int | None = None
    ) -> StateChange:
        """Keeps a setting; None deletes it. Raises ValueError, too."""
        return await self._do(_Change(uid, Inbox(uid), "set", setting(key, value), command_id, received_at))

    async def block(
        self, uid: int, peer: int, *, on: bool, command_id: str, received_at: int | None = None
    ) -> StateChange:
        """Blocks a user, or ends that. Raises ValueError, too."""
        if peer == uid:
            raise ValueError("users cannot block themselves")
        verb = "block" if on else "unblock"
        return await self._do(_Change(uid, Inbox(peer), verb, block(peer, on=on), command_id, received_at))

    async def _do(self, change: _Change) -> StateChange:
        if self._shards.count == 1:
            return await self._done(change)
        # What one command finds in the user's shard, the next one may change.
        async with self._turns.setdefault(change.uid, asyncio.Lock()):
            return await self._done(change)

    async def _done(self, change: _Change) -> StateChange:
        self._script.require_room()
        charge = self._budget.charge_for_many(str(change.uid), change.received_at)
        uids = [change.uid, *(change.peers[:1] if change.peers else ())]
        among = {self._shards.number(uid) for uid in uids}
        heard = ""
        while True:
            reply = await self._run(change, charge, heard)
            if reply.outcome == StateOutcome.UNKNOWN:
                heard = "1" if await self._heard(change) else "0"
            elif reply.outcome == StateOutcome.AGAIN:
                await self._script.reach(reply.id, among)
            else:
                break
        if reply.outcome == StateOutcome.REPEATED:
            await self._script.reach(reply.id, among)
        await self._script.carry(reply.links)
        self._script.given(reply.id)
        if reply.outcome != StateOutcome.DONE:
            return StateChange(reply.id, ())
        changed = [(change.uid, change.state)]
        if reply.told and change.peers is not None:
            changed.append(change.peers)
        return StateChange(reply.id, tuple((uid, state._replace(mid=reply.id)) for uid, state in changed))

    async def _heard(self, change: _Change) -> bool:
        """Returns whether the archive says that the peer wrote the message that was read.

        A mark does not wait for an archive that is away: others' events would wait behind it in the broker. The peer is
        told by the next mark then.
        """
        if time.monotonic() < self._archive_away_until:
            return False
        try:
            async with asyncio.timeout(_ARCHIVE_SECONDS):
                message = await self._archive.message(Inbox(change.uid).conversation, int(change.state.value))
        except (ArchiveAway, TimeoutError):
            self._archive_away_until = time.monotonic() + _AWAY_SECONDS
            return False
        return message is not None and change.peers is not None and message.sender == str(change.peers[0])

    async def _run(self, change: _Change, charge: int, heard: str) -> StateReply:
        uid, to, verb, state, command_id, received_at, peers = change
        looked = peer_looked = b""
        if self._shards.count > 1:
            looked = await self._look(uid, state, change.channel, str(peers[0]) if peers else "")
            peer_looked = await self._look(*peers) if peers else b""
        try:
            return await self._script.run(
                _SCRIPT,
                repeat_key=keys.repeat(str(uid), CommandTopic(to, verb).topic, command_id),
                group_key=keys.group(to.gid if isinstance(to, Group) else 0),
                tag_key=keys.tag(to.name if isinstance(to, Tag) else ""),
                channel_map_key=keys.channel_map(uid),
                repeat_seconds=self._script.repeat_seconds,
                uid=uid,
                name=state.name,
                value=state.value,
                channel=change.channel,
                peer=peers[0] if peers else "",
                peer_name=peers[1].name if peers else "",
                own_topic=Inbox(uid).topic,
                heard=heard,
                account=account(received_at, str(uid)),
                budget_limit=self._budget.limit,
                min_charge=self._budget.min_charge,
                charge="" if charge == NOT_JUDGED else charge,
                looked=looked,
                peer_looked=peer_looked,
                **_bounds(),
            )
        except AccountSpent:
            assert received_at is not None
            raise self._budget.close(str(uid), received_at) from None

    async def _look(self, uid: int, state: UserState, channel: str = "", peer: str = "") -> bytes:
        """Returns what the user's shard says of this state of theirs, for the script."""
        return await _LOOK.run(
            self._shards.of(uid),
            channel_map_key=keys.channel_map(uid),
            caller_time=time.time_ns() // 1000,
            window=self._window_us,
            uid=uid,
            name=state.name,
            value=state.value,
            channel=channel,
            peer=peer,
            own_topic=Inbox(uid).topic,
            **_bounds(),
        )


def _bounds() -> dict[str, Any]:
    """Returns what `include/state_room.lua` takes."""
    return {"max_marks": MAX_MARKS, "max_settings": MAX_SETTINGS, "max_blocks": MAX_BLOCKS}
