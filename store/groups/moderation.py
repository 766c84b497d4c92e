"""Carries out what owner and admins do with a group beside its members: update, hand over, name admins, and mute.

Each is one script call: all of it happens, or nothing. A mute outlasts the membership; otherwise leaving an open group
and joining it again would end it.
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from store.errors import ChannelRefused
from store.groups.context import CommandContext
from store.groups.groups import Changed, Groups, named
from store.redis import keys
from store.redis.client import RedisClient

MAX_NAME = 128
MAX_NOTICE = 2048
"""Characters."""
MAX_MUTE_SECONDS = 365 * 86400


class Moderation(NamedTuple):
    """admins: the longest-standing first. muted_until: when the mute of all ends or ended, milliseconds; 0: no mute."""

    notice: str
    admins: tuple[int, ...]
    muted_until: int


class Moderators:
    """Commands as those of `Groups`, with the same errors and arguments."""

    def __init__(self, redis: RedisClient, groups: Groups) -> None:
        """redis: answers questions."""
        self._redis = redis
        self._groups = groups

    async def update(
        self,
        context: CommandContext,
        *,
        name: str | None = None,
        open: bool | None = None,  # noqa: A002
        notice: str | None = None,
    ) -> Changed:
        """Changes what is given."""
        fields = {"name": name, "open": open, "notice": notice}
        given = {field: value for field, value in fields.items() if value is not None}
        if not given or len(name or "") > MAX_NAME or len(notice or "") > MAX_NOTICE:
            raise ChannelRefused("bad_command")
        told = context.notices.updated(context.gid, given, context.actor)
        return await self._groups.moderate(context.moderation("update", told, name=name, open=open, text=notice))

    async def transfer(self, context: CommandContext, *, to: int) -> Changed:
        """Makes a member the owner, and the former owner an admin."""
        told = context.notices.transferred(context.gid, to, context.actor)
        return await self._groups.moderate(context.moderation("transfer", told, members=(to,)))

    async def admin(self, context: CommandContext, *, members: Iterable[int], on: bool) -> Changed:
        """Makes members admins, or ends that."""
        users = tuple(named(members))
        told = context.notices.admins_changed(context.gid, users, on, context.actor)
        return await self._groups.moderate(context.moderation("admin", told, members=users, on=on))

    async def mute(self, context: CommandContext, *, members: Iterable[int] | None, seconds: int) -> Changed:
        """Refuses messages of members for so many seconds from now; 0 ends that.

        members: None for all but owner and admins.
        """
        if not 0 <= seconds <= MAX_MUTE_SECONDS:
            raise ChannelRefused("bad_command")
        users = None if members is None else tuple(named(members))
        until = time.time_ns() // 1_000_000 + seconds * 1000 if seconds else 0
        told = context.notices.muted(context.gid, users, seconds, until, context.actor)
        return await self._groups.moderate(
            context.moderation("mute", told, members=users or (), everybody=users is None, until=until)
        )

    async def of(self, gid: int) -> Moderation:
        """Returns what it is now; empty if nobody moderates such a group."""
        fields: Any = await self._redis.hmget(keys.group(gid), ["notice", "admins", "muted_until"])
        notice, admins, muted_until = ((field or b"").decode() for field in fields)
        return Moderation(notice, tuple(uids_of(admins)), int(muted_until or 0))

    async def muted(self, gid: int, users: Iterable[int]) -> dict[int, int]:
        """Returns when the own mutes of some users end (milliseconds), for those that have not ended."""
        asked, now = list(users), time.time() * 1000
        if not asked:
            return {}
        ends: Any = await self._redis.zmscore(keys.mutes(gid), [str(uid) for uid in asked])
        return {uid: int(end) for uid, end in zip(asked, ends, strict=True) if end is not None and end > now}


def uids_of(admins: str) -> list[int]:
    """Reads a group's field `admins`."""
    return [int(admin.partition(":")[0]) for admin in admins.split()]
