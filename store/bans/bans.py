"""Bans, as Redis has them: a key for each that expires with the ban, which the script of pulls reads."""

import time
from typing import Any, NamedTuple, Unpack

from store.redis import keys
from store.redis.batch_script import BatchScript
from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.write_bounds import ScriptBounds


class BanReply(NamedTuple):
    """id: of the change, 0 if there is none."""

    id: int
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "BanReply":
        id_, links = reply
        return cls(id_, [LinkEntry.parse(each) for each in links])


_BAN = script("ban", BanReply)
_BANS = script("bans", list)


class Ban(NamedTuple):
    """until: milliseconds. changed: id."""

    uid: int
    until: int
    changed: int
    reason: str


class Bans:
    """Its calls raise StoreError: a store that was lost does not pass for one without bans."""

    def __init__(self, redis: RedisClient, write_connection: RedisClient, **bounds: Unpack[ScriptBounds]) -> None:
        """redis: of the home; answers questions. write_connection, bounds: those of a BatchScript."""
        self._redis = redis
        self._script = BatchScript(write_connection, **bounds)

    @property
    def highest_id(self) -> int:
        """Returns the highest id that the store gave it."""
        return self._script.highest_id

    async def put(self, uid: int, seconds: int, reason: str) -> None:
        """Bans a user for so many seconds from now, whether they are banned or not."""
        await self._change(uid, time.time_ns() // 1_000_000 + seconds * 1000, reason)

    async def end(self, uid: int) -> bool:
        """Returns whether the user was banned."""
        return await self._change(uid, 0, "") > 0

    async def of(self, uid: int) -> Ban | None:
        """Returns the ban of a user; None if they are not banned."""
        return (await self._read(uid)).get(uid)

    async def all(self) -> dict[int, Ban]:
        """Returns every ban that lasts, by uid. Operators make them one by one, so there are few."""
        return await self._read()

    async def _read(self, *uids: int) -> dict[int, Ban]:
        reply = await _BANS.run(self._redis, more_arguments=uids)
        return {int(uid): _ban(int(uid), kept) for uid, kept in zip(reply[::2], reply[1::2], strict=True)}

    async def _change(self, uid: int, ends_at: int, reason: str) -> int:
        reply = await self._script.run(_BAN, ban_key=keys.ban(uid), uid=uid, ends_at=ends_at, reason=reason)
        await self._script.carry(reply.links)
        return self._script.given(reply.id)


def _ban(uid: int, kept: bytes) -> Ban:
    until, changed, reason = kept.decode().split("\n", 2)
    return Ban(uid, int(until), int(changed), reason)
