"""Who is online: a hash of devices per user, a bitmap per chunk of users, and two counts.

Events come late, twice, or out of order; the scripts say which of them count.
"""

import time
from collections.abc import Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from store import keys
from store.errors import StoreAway
from store.scripts import script

REMEMBER_SECONDS = 600
"""How long a disconnect is remembered whose connect has not come yet."""


class Presence:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._connect = script("presence_connect")
        self._disconnect = script("presence_disconnect")

    async def connected(self, uid: int, clientid: str, connected_at: int) -> bool:
        """True if the user came online by it. `connected_at` in milliseconds, as everywhere here."""
        names = [*_names(uid, keys.gone(uid, clientid, connected_at)), keys.CLOCK, keys.ASLEEP, keys.SEEN]
        arguments = [clientid, connected_at, keys.online_bit(uid), uid, _now()]
        return bool(await self._connect.run(self._redis, names, arguments))

    async def disconnected(self, uid: int, clientid: str, connected_at: int) -> bool:
        """True if the user went offline by it."""
        names = _names(uid, keys.gone(uid, clientid, connected_at))
        return await self._leave(uid, names, clientid, connected_at, "disconnect")

    async def died(self, uid: int, clientid: str, received_at: int) -> bool:
        """The broker sent the device's will at `received_at`. True if the user went offline by it."""
        return await self._leave(uid, _names(uid, b""), clientid, received_at, "will")

    async def _leave(self, uid: int, names: list[bytes], clientid: str, moment: int, kind: str) -> bool:
        arguments = [clientid, moment, keys.online_bit(uid), REMEMBER_SECONDS, kind, uid, _now()]
        return bool(await self._disconnect.run(self._redis, [*names, keys.SEEN], arguments))

    async def devices(self, uids: Iterable[int]) -> dict[int, dict[str, int]]:
        """For each user clientid to `connected_at` of his devices online; empty: he is offline."""
        uids = list(uids)
        pipeline = self._redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.hgetall(keys.devices(uid))
        try:
            found = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StoreAway(f"presence: {error}") from error
        return {
            uid: {clientid.decode(errors="replace"): int(at) for clientid, at in held.items()}
            for uid, held in zip(uids, found, strict=True)
        }

    async def last_seen(self, uid: int) -> int | None:
        """Milliseconds, an hour or so behind; None: never, or too long ago."""
        try:
            seen = await self._redis.zscore(keys.SEEN, str(uid))
        except (RedisError, OSError) as error:
            raise StoreAway(f"presence: {error}") from error
        return None if seen is None else int(seen)

    async def counts(self) -> tuple[int, int]:
        """Users and devices online now."""
        try:
            users, devices = await self._redis.hmget(keys.PRESENCE, ["users", "devices"])
        except (RedisError, OSError) as error:
            raise StoreAway(f"presence: {error}") from error
        return int(users or 0), int(devices or 0)


def _names(uid: int, gone: bytes) -> list[bytes]:
    return [keys.EPOCH, keys.devices(uid), keys.online_chunk(uid), keys.PRESENCE, gone]


def _now() -> int:
    return time.time_ns() // 1_000_000
