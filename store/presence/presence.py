"""Keeps who is online: a hash of devices for each user, bitmaps of users, and two counts.

Events come late, twice, or out of order, and the clocks of the broker's nodes differ; the scripts say which count.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from store.events.kinds import NO_EVENTS, WantedEvents
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards, as_shards

REMEMBER_SECONDS = 600
"""How long a disconnect is remembered whose connect has not come yet."""
REMEMBER_HELD_SECONDS = 60
"""How long any other is: longer than a page of the broker's list is on its way."""

MAX_STEP = 5000
"""Milliseconds by which a connection must be older than a will that ends it: a node's clock may be moved, and a process
that is taken over may be slow. A disconnect follows the will anyway."""
_FAR = 60_000
"""Milliseconds by which clocks of nodes never differ: of two connections of one device that far apart one is over."""

_AT_ONCE = 500
"""Devices or users that one script call looks at; everybody else waits for it."""

Item = TypeVar("Item")


class Device(NamedTuple):
    """One connection. connected_at: milliseconds, by the clock of its node. node: its mark; "": it is not known."""

    uid: int
    clientid: str
    connected_at: int
    node: str = ""


def device_at(node: str, uid: int, clientid: str, connected_at: int) -> Device:
    """Returns a connection to this node of the broker.

    A mark stands for its name, which would double what a device takes.
    """
    return Device(uid, clientid, connected_at, blake2b(node.encode(), digest_size=4).hexdigest())


class Came(NamedTuple):
    """devices: how many are held now that were not. too_many: uid and clientid of those that a user has too many."""

    devices: int
    too_many: list[tuple[int, str]]


class ConnectReply(NamedTuple):
    """too_many: uid and clientid of each, one after the other."""

    devices: int
    users: int
    too_many: list[bytes]


class DisconnectReply(NamedTuple):
    devices: int
    users: int


_CONNECT = script("presence_connect", ConnectReply)
_DISCONNECT = script("presence_disconnect", DisconnectReply)
_DEVICES = script("presence_devices", list[Any])


class Presence:
    """Its calls raise StoreAway, and those that change something StoreEmpty."""

    def __init__(
        self, redis: RedisClient | Shards[RedisClient], max_devices: int = 0, events: WantedEvents = NO_EVENTS
    ) -> None:
        """max_devices: one user may have online; 0: any number."""
        self._shards = as_shards(redis)
        self._max_devices = max_devices
        self._events = events.arguments

    async def connected(self, *devices: Device) -> Came:
        """Adds connections; returns what changed by it."""
        replies: list[ConnectReply] = []
        for redis, theirs in self._shards.parts(devices, attrgetter("uid")):
            calls = []
            for some in _parts(theirs):
                calls.append(
                    _CONNECT.call(
                        more_keys=[*map(_gone, some)],
                        more_arguments=_fields(some),
                        users_per_bitmap=keys.USERS_PER_BITMAP,
                        now=_now(),
                        far=_FAR,
                        max_devices=self._max_devices,
                        **self._events,
                    )
                )
            replies += await _CONNECT.run_each(redis, calls)
        too_many = [(int(uid), clientid.decode()) for reply in replies for uid, clientid in _pairs(reply.too_many)]
        return Came(sum(reply.devices for reply in replies), too_many)

    async def disconnected(self, device: Device, *, another_stands: bool = False) -> None:
        """Ends a connection. another_stands: the device has another one, which may not have been reported yet."""
        await self._leave("takeover" if another_stands else "disconnect", [device], [_gone(device)])

    async def died(self, device: Device) -> None:
        """Handles a will that the node sent at `connected_at`: it ends an older connection to the same node.  To be
        sure, that has to be older by MAX_STEP.
        """
        await self._leave("will", [device], [])

    async def unlisted(self, *devices: Device) -> int:
        """Removes connections that the broker does not list; returns how many devices went offline by it."""
        parts = [some for _, theirs in self._shards.parts(devices, attrgetter("uid")) for some in _parts(theirs)]
        return sum([await self._leave("unlisted", some, []) for some in parts])

    async def _leave(self, kind: str, devices: Sequence[Device], gone: Sequence[bytes]) -> int:
        """Ends connections of users of one shard."""
        reply = await _DISCONNECT.run(
            self._shards.of(devices[0].uid),
            more_keys=gone,
            more_arguments=_fields(devices),
            users_per_bitmap=keys.USERS_PER_BITMAP,
            now=_now(),
            kind=kind,
            remember_unheld=REMEMBER_SECONDS,
            remember_held=REMEMBER_HELD_SECONDS,
            older=MAX_STEP,
            **self._events,
        )
        return reply.devices

    async def devices(self, uids: Iterable[int]) -> dict[int, dict[str, int]]:
        """Returns for each user clientid to `connected_at` of their online devices, empty if offline. One round
        trip to each shard."""
        held = await self.connections(uids)
        return {uid: {each.clientid: each.connected_at for each in sorted(held[uid])} for uid in held}

    async def connections(self, uids: Iterable[int]) -> dict[int, list[Device]]:
        """Returns for each user the connections of their devices; a moving device has several. One round trip to
        each shard."""
        found: dict[int, list[Device]] = {uid: [] for uid in uids}
        for redis, theirs in self._shards.parts(list(found), int):
            calls = [
                _DEVICES.call(more_arguments=some, users_per_bitmap=keys.USERS_PER_BITMAP) for some in _parts(theirs)
            ]
            for reply in await _DEVICES.run_each(redis, calls):
                for uid, held in _pairs(reply):
                    found[int(uid)] = [
                        each for clientid, value in _pairs(held) for each in _connections(int(uid), clientid, value)
                    ]
        return found

    async def everybody(self) -> AsyncIterator[list[Device]]:
        """Yields all connections, some at a time; those that begin or end meanwhile may be missing."""
        for redis in self._shards:
            async for some in self._everybody_of(redis):
                yield some

    async def _everybody_of(self, redis: RedisClient) -> AsyncIterator[list[Device]]:
        cursor = 0
        while True:
            cursor, numbers = await redis.sscan(redis.key(keys.BITMAPS), cursor, count=_AT_ONCE)
            names = [redis.key(keys.bitmap(int(number))) for number in numbers]
            bitmaps: Any = await redis.mget(names) if names else []
            users = [_users(int(number), bitmap or b"") for number, bitmap in zip(numbers, bitmaps, strict=True)]
            for uids in _parts([uid for some in users for uid in some]):
                held = await self.connections(uids)
                yield [each for uid in uids for each in held[uid]]
            if not cursor:
                return

    async def seen_since(self, moment: int, limit: int) -> list[int]:
        """Returns the users seen since then (milliseconds), the latest first; everybody who connected is among
        them."""
        latest: list[tuple[float, int]] = []
        for redis in self._shards:
            seen: Any = await redis.zrevrangebyscore(redis.key(keys.SEEN), "+inf", moment, 0, limit, withscores=True)
            latest += [(at, int(uid)) for uid, at in seen]
        if self._shards.count > 1:
            latest.sort(reverse=True)
        return [uid for _, uid in latest[:limit]]

    async def last_seen(self, uid: int) -> int | None:
        """Returns when the user was last seen, in milliseconds, up to an hour behind; None: never, or too long
        ago."""
        redis = self._shards.of(uid)
        seen = await redis.zscore(redis.key(keys.SEEN), str(uid))
        return None if seen is None else int(seen)

    async def counts(self) -> tuple[int, int]:
        """Returns users and devices online now."""
        counts = [await redis.hmget(redis.key(keys.PRESENCE), ["users", "devices"]) for redis in self._shards]
        return sum(int(users or 0) for users, _ in counts), sum(int(devices or 0) for _, devices in counts)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _connections(uid: int, clientid: bytes, value: bytes) -> Iterator[Device]:
    """Reads connections as `lua/include/presence.lua` writes them."""
    for each in value.decode().split(","):
        at, _, rest = each.partition(":")
        yield Device(uid, clientid.decode(errors="replace"), int(at), rest.partition(":")[0])


def _fields(devices: Sequence[Device]) -> list[Any]:
    return [field for device in devices for field in device]


def _gone(device: Device) -> bytes:
    return keys.gone(*device)


def _users(number: int, bitmap: bytes) -> list[int]:
    """Returns the users whose bits are set in a bitmap."""
    first = number * keys.USERS_PER_BITMAP
    return [
        first + 8 * place + bit for place, byte in enumerate(bitmap) if byte for bit in range(8) if byte & (128 >> bit)
    ]


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))


def _pairs(reply: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(reply[::2], reply[1::2], strict=True)
