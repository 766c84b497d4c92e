"""Compares ways to keep who is online, for dense uids (one in five of those from 1 on) and sparse ones (random, of 53
bits).

Memory is that of Redis for the data with its keys, and of the data alone for structures in a process. False
answers are counted for as many users as are online: for users who are not, and, after a tenth went offline and one
in a hundred of them a second time, as repeated disconnects do, for users who went and for users who are still
online. Rates are of one client: for Redis in pipelines of 1,000, for filters in plain Python, so they compare only
among themselves. At the end comes what the service itself does: its events one after the other, and a question
about 10,000 users, half of them online, beside the same question answered from each user's devices.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pyroaring import BitMap64
from redis import Redis

from store.presence.presence import Device, Presence
from store.redis import keys
from store.redis.connection import connect
from tests.bench.filters import Bloom, Counting, Cuckoo
from tests.bench.report import Report
from tests.servers import RedisServer, program

AT = 1_795_000_000_000
PIPELINE = 1000
ASKED = 10_000
MAX_BIT = 2**32 - 1
"""Bits of one string in Redis, which holds 512 MB."""


class Users(NamedTuple):
    """Holds the kind of uids, the users online, and as many users who are not."""

    kind: str
    online: list[int]
    offline: list[int]


class Kept(Protocol):
    """One way to keep it."""

    def add(self, uids: Sequence[int]) -> None: ...

    def remove(self, uids: Sequence[int]) -> None: ...

    def online(self, uids: Sequence[int]) -> int:
        """Returns how many it says are online."""

    def bytes(self) -> int: ...


class InRedis:
    """By one command a user: to set, to take away, and to ask."""

    def __init__(self, redis: "Redis", add: Any, remove: Any, ask: Any) -> None:
        self._redis = redis
        redis.flushall()
        self._empty = self._used()
        self._commands = add, remove, ask

    def _used(self) -> int:
        return int(self._redis.info("memory")["used_memory"])

    def bytes(self) -> int:
        return self._used() - self._empty

    def _each(self, command: Callable[[Any, int], object], uids: Sequence[int]) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(uids), PIPELINE):
            pipeline = self._redis.pipeline(transaction=False)
            for uid in uids[start : start + PIPELINE]:
                command(pipeline, uid)
            replies += pipeline.execute()
        return replies

    def add(self, uids: Sequence[int]) -> None:
        self._each(self._commands[0], uids)

    def remove(self, uids: Sequence[int]) -> None:
        self._each(self._commands[1], uids)

    def online(self, uids: Sequence[int]) -> int:
        return sum(map(bool, self._each(self._commands[2], uids)))


def place(uid: int) -> tuple[bytes, int]:
    number, bit = divmod(uid, keys.USERS_PER_BITMAP)
    return keys.bitmap(number), bit


def one_bitmap(redis: "Redis") -> Kept:
    return InRedis(
        redis,
        lambda pipeline, uid: pipeline.setbit("online", uid, 1),
        lambda pipeline, uid: pipeline.setbit("online", uid, 0),
        lambda pipeline, uid: pipeline.getbit("online", uid),
    )


def bitmaps(redis: "Redis") -> Kept:
    return InRedis(
        redis,
        lambda pipeline, uid: pipeline.setbit(*place(uid), 1),
        lambda pipeline, uid: pipeline.setbit(*place(uid), 0),
        lambda pipeline, uid: pipeline.getbit(*place(uid)),
    )


def one_set(redis: "Redis") -> Kept:
    return InRedis(
        redis,
        lambda pipeline, uid: pipeline.sadd("online", uid),
        lambda pipeline, uid: pipeline.srem("online", uid),
        lambda pipeline, uid: pipeline.sismember("online", uid),
    )


def devices(redis: "Redis") -> Kept:
    return InRedis(
        redis,
        lambda pipeline, uid: pipeline.hset(keys.DEVICES_PREFIX + b"%d" % uid, f"{uid}-phone", AT),
        lambda pipeline, uid: pipeline.hdel(keys.DEVICES_PREFIX + b"%d" % uid, f"{uid}-phone"),
        lambda pipeline, uid: pipeline.exists(keys.DEVICES_PREFIX + b"%d" % uid),
    )


class InProcess:
    """A filter, or a roaring bitmap."""

    def __init__(self, made: Any, size: Callable[[Any], int], remove: Callable[[Any, int], object]) -> None:
        self._made = made
        self._size = size
        self._remove = remove

    def add(self, uids: Sequence[int]) -> None:
        for uid in uids:
            self._made.add(uid)

    def remove(self, uids: Sequence[int]) -> None:
        for uid in uids:
            self._remove(self._made, uid)

    def online(self, uids: Sequence[int]) -> int:
        return sum(uid in self._made for uid in uids)

    def bytes(self) -> int:
        return self._size(self._made)


def run(report: Report) -> None:
    count = report.choose(quick=2_000, usual=100_000, full=1_000_000)
    some = random.Random(1)
    dense = some.sample(range(1, 5 * count + 1), 2 * count)
    sparse = [some.randrange(1, 2**53) for _ in range(2 * count)]
    with tempfile.TemporaryDirectory() as name:
        server = RedisServer(Path(name) / "redis", program("redis-server"), appendfsync="no")
        server.start()
        try:
            redis = Redis.from_url(server.url)
            for kind, uids in (("dense", dense), ("sparse", sparse)):
                users = Users(kind, uids[:count], uids[count:])
                for what, kept in ways(redis, users):
                    compare(report, what, kept, users)
                asyncio.run(serve(report, server.url, users))
        finally:
            server.stop()
    report.note(
        f"{count:,} users online. One bitmap for sparse uids would need a petabyte; Redis's strings end at 512 MB."
    )
    for kind in ("dense", "sparse"):
        names = [
            figure.name for figure in report.figures if figure.name.endswith(", memory") and f" {kind}," in figure.name
        ]
        report.chart(f"Memory for one {kind} user online", names)


def ways(redis: "Redis", users: Users) -> Iterable[tuple[str, Kept]]:
    count = len(users.online)
    if max(users.online) <= MAX_BIT:
        yield "one bitmap", one_bitmap(redis)
    yield f"a bitmap for {keys.USERS_PER_BITMAP:,}", bitmaps(redis)
    yield "a set", one_set(redis)
    yield "a hash of devices for each", devices(redis)
    yield "roaring bitmap", InProcess(BitMap64(), lambda made: len(made.serialize()), BitMap64.discard)
    # A Bloom filter cannot forget: users who go offline stay in it.
    yield "Bloom filter", InProcess(Bloom(count), Bloom.size, lambda made, uid: None)
    yield "counting Bloom filter", InProcess(Counting(count), Bloom.size, Counting.remove)
    yield "cuckoo filter", InProcess(Cuckoo(count), Cuckoo.size, Cuckoo.remove)


def compare(report: Report, what: str, kept: Kept, users: Users) -> None:
    count = len(users.online)
    what = f"{what}, {users.kind}"
    report.figure(f"{what}, set", "users/s", count / timed(lambda: kept.add(users.online)))
    report.figure(f"{what}, memory", "bytes a user", kept.bytes() / count)
    asked = timed(lambda: kept.online(users.online))
    report.figure(f"{what}, asked", "users/s", count / asked)
    report.figure(f"{what}, said to be online, who never was", "%", 100 * kept.online(users.offline) / count)
    gone, here = users.online[: count // 10], users.online[count // 10 :]
    kept.remove(gone)
    kept.remove(gone[: len(gone) // 100])
    report.figure(f"{what}, said to be online, who has gone", "%", 100 * kept.online(gone) / len(gone))
    report.figure(f"{what}, said to be offline, who is there", "%", 100 - 100 * kept.online(here) / len(here))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


async def serve(report: Report, url: str, users: Users) -> None:
    """The service's presence, which is bitmaps and hashes of devices."""
    redis = connect(url)
    try:
        await redis.flushall()
        await redis.mset({keys.EPOCH: "bench", keys.CLOCK: 1})
        empty = int((await redis.info("memory"))["used_memory"])
        presence = Presence(redis)
        held = [Device(uid, f"{uid}-phone", AT) for uid in users.online]
        for start in range(0, len(held), 10_000):
            await presence.connected(*held[start : start + 10_000])
        used = int((await redis.info("memory"))["used_memory"]) - empty
        report.figure(f"presence, {users.kind}, memory", "bytes a user", used / len(held))
        events = held[: report.choose(quick=100, usual=2_000, full=10_000)]
        started = time.perf_counter()
        for device in events:
            await presence.disconnected(device)
        report.figure(
            f"presence, {users.kind}, disconnects one by one", "events/s", len(events) / (time.perf_counter() - started)
        )
        half = min(ASKED, len(users.online)) // 2
        asked = [*users.online[-half:], *users.offline[-half:]]
        took, plainly = [], []
        for _ in range(5):
            started = time.perf_counter()
            found = await presence.devices(asked)
            took.append((time.perf_counter() - started) * 1000)
            if sum(map(bool, found.values())) < half:
                raise RuntimeError("not everybody is found")
            started = time.perf_counter()
            pipeline = redis.pipeline(transaction=False)
            for uid in asked:
                pipeline.hgetall(keys.DEVICES_PREFIX + b"%d" % uid)
            await pipeline.execute()
            plainly.append((time.perf_counter() - started) * 1000)
        what = f"presence, {users.kind}, {len(asked):,} users asked at once"
        report.figure(what, "ms", took)
        report.figure(f"{what}, by a look at each hash", "ms", plainly)
    finally:
        await redis.aclose()
