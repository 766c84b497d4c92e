"""A durable list of work: users whose permission at the broker changed, written by scripts that change
memberships."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from store.addresses import Group
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.work_list import Item, WorkList

_WORKERS = "permissions"


class EndReply(NamedTuple):
    """left: how many memberships. links: what is on links now; the process that looks after these carries it."""

    left: int
    links: list[Any]


_GROUP_END = script("group_end", EndReply)

FIRST = b"0-0"
"""Below the id of every entry."""


class Permission(NamedTuple):
    """granted: the user may subscribe to the topic and publish to it now; else they may no longer.

    share: who caused it: a user, `0` for operators, or the channel of a tag.
    """

    id: bytes
    share: str
    uid: int
    topic: str
    granted: bool


class Ending(NamedTuple):
    """A dismissed group that still has members: those whose membership is ended become entries of their own."""

    id: bytes
    share: str
    gid: int


Entry = Permission | Ending


class PermissionWork:
    """Hands entries to one worker. They are its own until they are `done`, or it has not read for `idle` s.

    Its calls raise StoreAway.
    """

    def __init__(self, redis: RedisClient, *, idle: float = 30.0) -> None:
        self._redis = redis
        self._list = WorkList(redis, keys.PERMISSIONS, _WORKERS, idle=idle)

    async def read(self, limit: int, *, wait: bool = True) -> list[Entry]:
        """Returns up to `limit` entries in order that this worker has not been given: those another one left, else new.

        Waits a second for new ones, if it is to.
        """
        return _entries(await self._list.read(limit, wait=wait))

    async def unfinished(self, after: bytes, limit: int) -> tuple[list[Entry], bytes | None]:
        """Returns up to `limit` entries that this worker was given and has not done, above an id; and the id to go on
        from.

        None: there are no more.
        """
        items, go_on = await self._list.unfinished(after, limit)
        return _entries(items), go_on

    async def end_memberships(self, ending: Ending) -> int:
        """Ends up to a thousand memberships; returns how many are left. Raises StoreEmpty, too."""
        group = Group(ending.gid)
        reply = await _GROUP_END.run(
            self._redis,
            group_key=keys.group(ending.gid),
            members_key=keys.members(ending.gid),
            kicked_key=keys.kicked(ending.gid),
            gid=ending.gid,
            channel=group.channel,
            topic=group.topic,
            actor=ending.share,
        )
        return reply.left

    async def done(self, entries: Sequence[Entry]) -> None:
        """Takes entries off the list."""
        ids = [entry.id for entry in entries]
        if ids:
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.xack(keys.PERMISSIONS, _WORKERS, *ids)
            pipeline.xdel(keys.PERMISSIONS, *ids)
            await pipeline.execute()

    async def leave(self) -> None:
        """Ends this worker; what it has not finished goes to another."""
        await self._list.leave()


def _entries(items: Iterable[Item]) -> list[Entry]:
    return [_entry(id_, fields) for id_, fields in items]


def _entry(id_: bytes, fields: dict[bytes, bytes]) -> Entry:
    share = fields.get(b"a", b"0").decode()  # a process of an earlier version writes none
    if b"e" in fields:
        return Ending(id_, share, int(fields[b"e"]))
    return Permission(id_, share, int(fields[b"u"]), fields[b"t"].decode(), fields[b"g"] == b"1")
