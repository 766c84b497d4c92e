"""Compares Redis with the newest entries of the archive after it was restarted, perhaps from an older state. If
nothing was written since, its clock is enough. Otherwise the newest messages and changes are looked for.
"""

import time
from operator import attrgetter
from typing import Any

from store.addresses import Group, Tag, parse_channel, parse_stored
from store.archive.archive import Archive
from store.archive.tables.changes import Change
from store.record import Message
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.shards import Shards
from store.timelines.destinations import destinations
from store.timelines.spans import span

_COMPARED = 100
"""Newest messages, and newest changes of groups and tags, and of states, that Redis is asked for."""

_MEMBERS_ASKED = 10
"""Members of a group that are asked for a message of it."""

_MARGIN_US = 60_000_000
"""Messages so near to the window's edge may have been trimmed meanwhile."""


class Comparison:
    def __init__(self, redis: Shards[RedisClient], archive: Archive, *, window_us: int, sync_sender: bool) -> None:
        self._shards = redis
        self._redis = redis.home
        self._archive = archive
        self._window_us = window_us
        self._sync_sender = sync_sender

    async def lacks(self, highest: int) -> bool:
        """Returns whether Redis lacks any of the newest that the archive has up to an id.

        Raises StoreAway, ArchiveAway.
        """
        changes = await self._archive.newest_changes(highest, _COMPARED)
        edge = max(time.time_ns() // 1000, highest) - self._window_us + _MARGIN_US
        messages = [each for each in await self._archive.newest(highest, _COMPARED) if each.mid > edge]
        if (
            not await self._know(changes)
            or not await self._know_states(highest)
            or not await self._knows_ban(await self._archive.operators.newest_ban(highest))
        ):
            return True
        for message in messages:
            if not await self._held(message):
                return True
        return False

    async def _know(self, changes: list[Change]) -> bool:
        """Returns whether all of these groups and tags have changed that far in Redis."""
        pipeline = self._redis.pipeline(transaction=False)
        for channel, _ in changes:
            pipeline.hget(_key(channel), "changed")
        replies: list[Any] = await pipeline.execute() if changes else []
        return all(int(known or 0) >= changed for known, (_, changed) in zip(replies, changes, strict=True))

    async def _knows_ban(self, changed: int) -> bool:
        """Returns whether Redis has this change of a ban."""
        return int(await self._redis.get(keys.BANS_CHANGED) or 0) >= changed

    async def _know_states(self, highest: int) -> bool:
        """Returns whether all states have changed that far in Redis, but for marks that were forgotten since."""
        rows = await self._archive.states.newest_states(highest, _COMPARED)
        for redis, theirs in self._shards.parts(rows, attrgetter("uid")):
            pipeline = redis.pipeline(transaction=False)
            for row in theirs:
                pipeline.get(redis.key(keys.state_head(row.uid)))
            replies: list[Any] = await pipeline.execute()
            if any(int(head or 0) < row.changed for head, row in zip(replies, theirs, strict=True)):
                return False
        return True

    async def _held(self, message: Message) -> bool:
        """Returns whether a timeline of the message holds it, or each belongs to a user who was dormant then."""
        to = parse_stored(message.topic)
        uids, channel = destinations(to, message.sender, sync_sender=self._sync_sender)
        for redis in self._shards if channel else ():
            if await self._lies_in(redis, keys.channel(channel), message.mid):
                return True
        written = bool(channel)
        for uid in uids:
            redis = self._shards.of(int(uid))
            if await self._lies_in(redis, keys.inbox(int(uid), span(message.mid)), message.mid):
                return True
            written = written or await self._was_active(uid, message.mid)
        if isinstance(to, Group):
            return await self._held_by_members(to.gid, message)
        return not written

    async def _lies_in(self, redis: RedisClient, timeline: bytes, mid: int) -> bool:
        """Returns whether the timeline of this shard has the id, and the shard the body."""
        pipeline = redis.pipeline(transaction=False)
        pipeline.zscore(redis.key(timeline), str(mid))
        pipeline.hexists(redis.key(keys.bodies(span(mid))), str(mid))
        score, has_body = await pipeline.execute()
        return score is not None and bool(has_body)

    async def _held_by_members(self, gid: int, message: Message) -> bool:
        """Returns whether the group is there, and an inbox holds its message if one of its oldest members was active
        then.
        """
        if not await self._redis.exists(keys.group(gid)):
            return False
        oldest: Any = await self._redis.zrange(keys.members(gid), 0, _MEMBERS_ASKED - 1, withscores=True)
        written = False
        for uid, joined in oldest:
            if joined > message.mid or (uid.decode() == message.sender and not self._sync_sender):
                continue
            redis = self._shards.of(int(uid))
            if await self._lies_in(redis, keys.inbox(int(uid), span(message.mid)), message.mid):
                return True
            written = written or await self._was_active(uid.decode(), message.mid)
        return not written

    async def _was_active(self, uid: str, mid: int) -> bool:
        """Returns whether the user's inbox was written when a message got its id."""
        redis = self._shards.of(int(uid))
        since: Any = await redis.hget(redis.key(keys.DORMANT), uid)
        if since is None:
            return await redis.zscore(redis.key(keys.UNSEEN), uid) is None
        return 0 < int(since) < mid


def _key(channel: str) -> bytes:
    """Returns the key of the group or tag that a channel belongs to."""
    of = parse_channel(channel)
    assert isinstance(of, Group | Tag)
    return keys.group(of.gid) if isinstance(of, Group) else keys.tag(of.name)
