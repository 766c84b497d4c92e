"""Read diffusion: one user's sequence, merged from sources.

Each source is complete up to a watermark that was read before its data; one that was cut is complete up to its last
message. Messages in (cursor, lowest watermark] are returned, so nothing is skipped and nothing comes twice.

One id is the boundary of a pull: from it on Redis answers, below it the archive. It is the edge of Redis's window, or
where the user's inbox began to be written again after they had been dormant.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from store.addresses import GLOBAL, TAG_CHANNELS, Inbox, parse_channel
from store.archive.archive import Archive
from store.archive.outbox import Outbox
from store.archive.tables.visible_range import ENDLESS, VisibleRange
from store.errors import StoreEmpty
from store.record import Message, decode
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.pipelined import PipelinedConnection, RedisConnection
from store.redis.scripts import script
from store.redis.shards import Shards, as_shards
from store.states.state import UserState
from store.timelines.hot_channels import HotChannels

MAX_BYTES = 2 * 1024 * 1024
"""Bytes of messages one answer holds, unless a single one is larger."""
MESSAGE_BYTES = 200
"""The most bytes that a message takes in an answer beside its payload."""

_SEEN_MILLISECONDS = 3_600_000


class Source(NamedTuple):
    """Messages, or states, in order of their ids, and the id up to which the source is complete."""

    messages: Sequence[Message | UserState]
    watermark: int


class Pulled(NamedTuple):
    """messages, states: in order of `mid`. last_id: the new cursor. more: pull again at once.

    reset: the cursor belonged to another life of the store, and this answer starts at the window's edge.
    truncated: the cursor lay before the window.
    """

    messages: list[Message]
    last_id: int
    more: bool
    truncated: bool
    reset: bool
    epoch: str
    states: Sequence[UserState] = ()


class PullReply(NamedTuple):
    """The reply of `pull.lua`; its header has the meanings. oldest: 0 for none.

    merged: 1 if it was cut, and the records. read: names of channels. hot: of each channel at hand its name, the id of
    its newest message, intervals, and the newer records. seen: name and intervals of each channel, one after the other.
    states: none, or those of before the window and those of it, each 1 if it was cut, then name, id and value of each.
    """

    epoch: str
    clock: int
    lowest: int
    boundary: int
    reset: bool
    oldest: int
    awaited: int
    merged: list[Any]
    read: list[bytes]
    hot: list[list[bytes]]
    seen: list[bytes]
    states: list[list[Any]]

    @classmethod
    def parse(cls, reply: list[Any]) -> "PullReply":
        epoch, clock, lowest, boundary, reset, oldest, awaited, *lists = reply
        ids = int(clock), int(lowest), int(boundary)
        return cls(epoch.decode(), *ids, reset == 1, int(oldest or 0), int(awaited), *lists)


class Awaited(NamedTuple):
    """oldest: id in the outbox, 0 for none. awaited: the id below which nothing must wait there. epoch: the home's."""

    oldest: int
    awaited: int
    epoch: str

    @classmethod
    def parse(cls, reply: list[Any]) -> "Awaited":
        oldest, awaited, epoch = reply
        return cls(oldest, awaited, epoch.decode())


_SCRIPT = script("pull", PullReply)
_AWAITED = script("archive_state", Awaited)


def merge(
    sources: Sequence[Source], cursor: int, clock: int, limit: int
) -> tuple[list[Message | UserState], int, bool]:
    """Returns the messages and states of the answer, the new cursor, and whether there are more."""
    if len(sources) == 1:
        # As for most pulls: it is in order, and all of it lies below its watermark.
        waiting, complete = sources[0]
    else:
        complete = min((source.watermark for source in sources), default=clock)
        waiting = sorted([message for source in sources for message in source.messages if message.mid <= complete])
    messages: list[Message | UserState] = []
    size = 0
    last = cursor
    for message in waiting:
        if message.mid == last:
            # It lies in a hot channel and, sent in another mode before the store was rebuilt, in the inbox.
            continue
        size += _answer_bytes(message)
        if messages and (len(messages) == limit or size > MAX_BYTES):
            return messages, last, True
        messages.append(message)
        last = message.mid
    return messages, max(cursor, complete), complete < clock


def _answer_bytes(message: Message | UserState) -> int:
    """Returns what a message takes in an answer, at most; one that is not JSON is a third longer there."""
    if isinstance(message, UserState):
        return message.size
    payload = len(message.payload) if message.json else (len(message.payload) + 2) // 3 * 4
    return payload + MESSAGE_BYTES


class Puller:
    """Answers pulls: from Redis with one script call, and from the archive where the cursor lies below the boundary.

    window_us: what Redis keeps. roaming_us: how far back a pull reaches, at least the window. sync_sender: whether a
    sender's own messages are in their sequence. hot: the channels that this process holds; none, if it is not given.
    """

    def __init__(
        self,
        redis: RedisClient | RedisConnection | Shards[RedisClient] | Shards[PipelinedConnection],
        archive: Archive,
        outbox: Outbox,
        *,
        window_us: int,
        roaming_us: int,
        sync_sender: bool = True,
        hot: HotChannels | Shards[HotChannels] | None = None,
    ) -> None:
        self._shards: Shards[RedisClient | RedisConnection] = as_shards(redis)
        self._hot = as_shards(hot) if hot else self._shards.map(_nothing_held)
        self._archive = archive
        self._outbox = outbox
        self._window_us = window_us
        self._further_us = roaming_us - window_us
        self._sync_sender = sync_sender

    async def pull(self, uid: int, cursor: int, limit: int, epoch: str = "") -> Pulled:
        """Returns up to `limit` messages after `cursor`. Raises UserBanned, StoreEmpty, StoreAway,
        ArchiveAway."""
        shard = self._shards.number(uid)
        hot = self._hot[shard]
        offer = hot.offer()
        found = await _SCRIPT.run(
            self._shards[shard],
            more_arguments=(GLOBAL.channel,),
            ban_key=keys.ban(uid),
            channel_map_key=keys.channel_map(uid),
            cursor=cursor,
            max_records=limit,
            max_bytes=MAX_BYTES,
            caller_time=time.time_ns() // 1000,
            window=self._window_us,
            known_epoch=epoch,
            uid=uid,
            seen_fresh=_SEEN_MILLISECONDS,
            further=self._further_us,
            held_epoch=offer.epoch,
            at_hand=offer.text,
            tag_channels=TAG_CHANNELS,
            is_home=int(shard == 0),
        )
        hot.begin(found.epoch)
        clock, boundary = found.clock, found.boundary
        lowest = found.lowest
        if found.reset:
            cursor = 0
        sources = [_source(found.merged, clock)]
        if found.read:
            hot.missed(offer, (name.decode() for name in found.read))
        for name, head, intervals, *newer in found.hot:
            held = hot.take(offer, name.decode(), int(head), newer)
            cached = held.between(_intervals(intervals), max(cursor, boundary - 1), limit + 1)
            sources.append(_first(cached, limit, clock))
        older, newer_states = [_states(each) for each in found.states] if found.states else ([], [])
        if newer_states:
            sources.append(Source(newer_states, newer_states[-1].mid if found.states[1][0] else clock))
        start = max(cursor, lowest - 1)
        if start < boundary - 1:
            await self._catch_up(shard, found)
            sources.append(await self._archived(uid, _ranges(found.seen), start, boundary, clock, limit))
        merged, last_id, more = merge(sources, cursor, clock, limit)
        return Pulled(
            messages=[each for each in merged if not isinstance(each, UserState)],
            last_id=last_id,
            more=more,
            truncated=0 < cursor < lowest - 1,
            reset=found.reset,
            epoch=found.epoch,
            # Those older than the window come whole: no cursor stops below it.
            states=[
                *(state for state in older if state.mid <= last_id),
                *(each for each in merged if isinstance(each, UserState)),
            ],
        )

    async def _catch_up(self, shard: int, found: PullReply) -> None:
        """Returns when the archive has what this pull is to read there. The home has the outbox of all shards."""
        if shard == 0:
            await self._outbox.caught_up(found.awaited, found.oldest, found.epoch)
            return
        state = await _AWAITED.run(self._shards.home, below=found.boundary)
        await self._outbox.caught_up(state.awaited, state.oldest, state.epoch)
        redis = self._shards[shard]
        epoch: bytes | None = await redis.execute_command("GET", keys.in_shard(keys.EPOCH, redis.prefix))
        # Where the home lost something the other shards were rebuilt before it was.
        if epoch is None or epoch.decode() != found.epoch:
            raise StoreEmpty("Redis is empty, or is being rebuilt")

    async def _archived(
        self, uid: int, seen: Sequence[VisibleRange], start: int, boundary: int, clock: int, limit: int
    ) -> Source:
        """Returns what the archive has between `start` and the boundary, both excluded."""
        ranges = [VisibleRange(Inbox(uid).conversation), *seen]
        sender = str(uid) if self._sync_sender else ""
        return _first(await self._archive.read(ranges, sender, start, boundary, limit + 1), limit, clock)


def _states(reply: list[Any]) -> list[UserState]:
    """Returns states from `cut, name, id, value, …`."""
    flat = reply[1:]
    return [UserState(int(at), name, value) for name, at, value in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]


def _nothing_held(redis: RedisClient | RedisConnection) -> HotChannels:
    return HotChannels(redis, math.inf, lambda message: None)


def _ranges(reply: list[bytes]) -> list[VisibleRange]:
    """Returns the visible ranges of the channels' conversations, from `name, intervals, …`."""
    return [
        VisibleRange(parse_channel(name.decode()).conversation, _intervals(intervals))
        for name, intervals in zip(reply[::2], reply[1::2], strict=True)
    ]


def _intervals(text: bytes) -> tuple[tuple[int, int], ...]:
    """Reads intervals from `J:L,J:L,J:`."""
    pairs = (interval.partition(b":") for interval in text.split(b","))
    return tuple((int(joined), int(left) if left else ENDLESS) for joined, _, left in pairs)


def _first(messages: list[Message], limit: int, clock: int) -> Source:
    """Returns a source of at most `limit` messages; one more in the list means that there are more."""
    if len(messages) <= limit:
        return Source(messages, clock)
    return Source(messages[:limit], messages[limit - 1].mid)


def _source(reply: list[Any], clock: int) -> Source:
    cut, *records = reply
    messages = [decode(record) for record in records]
    return Source(messages, messages[-1].mid if cut else clock)
