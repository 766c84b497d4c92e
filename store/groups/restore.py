"""Restores groups and their members from the archive."""

from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Any

from store.addresses import Group
from store.archive.tables.groups import GroupRow, GroupTables
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards

_RESTORE = script("restore_group", bytes)
_RESTORE_MEMBERSHIPS = script("restore_memberships", bytes)
_COUNT = script("restore_counts", int)
_GROUPS = 500
_MEMBERS = 1000


async def restore_groups(
    shards: Shards[RedisClient], tables: GroupTables, above: int, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    """Restores groups; newer ones in Redis stay. above: an id above every id ever given. `keep_lock` is called
    repeatedly.  Raises StoreAway, ArchiveAway.
    """
    gid = 0
    while page := await tables.groups(gid, _GROUPS):
        for group in page:
            await _restore_group(shards, tables, group, above)
            await keep_lock()
        gid = page[-1].gid
    await _count_groups(shards.home, keep_lock)
    await keep_lock()


async def restore_memberships(
    shards: Shards[RedisClient], shard: int, tables: GroupTables, as_of: int, keep_lock: Callable[[], Awaitable[object]]
) -> None:
    """Restores what a shard beside the home knows of its users' memberships, as they were at an id: its link brings
    what comes after that. `keep_lock` is called repeatedly. Raises StoreAway, ArchiveAway.
    """
    gid = 0
    while page := await tables.groups(gid, _GROUPS):
        for group in page:
            after = (0, 0)
            while members := await tables.members(group.gid, after, _MEMBERS):
                arguments: list[Any] = []
                for row in members:
                    if shards.number(row.uid) == shard and row.joined <= as_of:
                        arguments += (row.uid, row.joined, row.left if row.left <= as_of else 0)
                if arguments:
                    await _RESTORE_MEMBERSHIPS.run(
                        shards[shard], more_arguments=arguments, gid=group.gid, channel=Group(group.gid).channel
                    )
                after = (members[-1].uid, members[-1].joined)
            await keep_lock()
        gid = page[-1].gid


async def _restore_group(shards: Shards[RedisClient], tables: GroupTables, group: GroupRow, above: int) -> None:
    after = (0, 0)
    while True:
        members = await tables.members(group.gid, after, _MEMBERS)
        arguments: list[Any] = []
        for member in members:
            arguments += (member.uid, member.joined, member.left, int(member.kicked))
        await _RESTORE.run(
            shards.home,
            more_arguments=arguments,
            group_key=keys.group(group.gid),
            members_key=keys.members(group.gid),
            kicked_key=keys.kicked(group.gid),
            gid=group.gid,
            channel=Group(group.gid).channel,
            above=above,
            shards=shards.count,
            owner=group.owner or "",
            mode=group.mode,
            open=int(group.open),
            made=group.made,
            dismissed=group.dismissed,
            changed=group.changed,
            name=group.name,
        )
        for redis, theirs in shards.parts(members, attrgetter("uid")):
            if redis is not shards.home:
                await _RESTORE_MEMBERSHIPS.run(
                    redis,
                    more_arguments=[each for row in theirs for each in (row.uid, row.joined, row.left)],
                    gid=group.gid,
                    channel=Group(group.gid).channel,
                )
        if len(members) < _MEMBERS:
            return
        after = (members[-1].uid, members[-1].joined)


async def _count_groups(redis: RedisClient, keep_lock: Callable[[], Awaitable[object]]) -> None:
    """Takes every group in Redis, also those that the archive does not have yet."""
    await redis.delete(keys.READ_GROUPS, keys.USER_GROUPS)
    counted = 0
    async for key in redis.scan_iter(match=keys.GROUP_PREFIX + b"*", count=1000):
        if counted % _GROUPS == 0:
            await keep_lock()
        counted += 1
        gid = int(key.removeprefix(keys.GROUP_PREFIX))
        await _COUNT.run(redis, group_key=keys.group(gid), members_key=keys.members(gid))
