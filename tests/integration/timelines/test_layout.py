"""A store of the layout before is converted and its processes shut out; one of a later version is left alone."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.addresses import GLOBAL, Address, Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.errors import ArchiveAway, RedisRefused, StoreEmpty, StoreUnknown
from store.operations.dead_letters import DeadLetters
from store.record import encode_tail
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.timelines.append import Appender
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.spans import span
from tests.integration.app import new_uid, running_app
from tests.integration.inboxes import inboxes_of
from tests.recorded import DIRECTORY
from tests.servers import RedisServer

WINDOW_US = 7 * 86_400_000_000
DAY_US = 86_400_000_000
PREFIX = b"im:{s0}:"
BATCH = [PREFIX + name for name in (b"epoch", b"clock", b"outbox", b"outbox:bytes", b"heads", b"news", b"asleep")]
BATCH += [PREFIX + b"in:", PREFIX + b"seen", PREFIX + b"unseen"]


class Earlier:
    """A process of the version before, with its own scripts."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._said = 0

    async def begin(self, *uids: int) -> None:
        await self._redis.set(PREFIX + b"epoch", "earlier")
        await self._redis.set(PREFIX + b"window", WINDOW_US)
        await self._redis.zadd(PREFIX + b"seen", {str(uid): time.time_ns() // 1_000_000 for uid in uids})

    async def say(self, *uids: int, channel: str = "") -> Any:
        """Returns what the script replies: the id of the message."""
        self._said += 1
        topic = f"business/{channel}" if channel else f"single/{uids[0]}"
        tail = encode_tail(topic, "1", f"m{self._said}", 0, True, b'{"n": %d}' % self._said)
        repeat_key = keys.repeat("1", topic, f"m{self._said}")
        names = [*BATCH, PREFIX + b"b:", repeat_key, *([PREFIX + b"ch:" + channel.encode()] if channel else [])]
        now = time.time_ns() // 1000
        to = channel or " ".join(map(str, uids))
        (mid,) = await self._run("append", names, [now, WINDOW_US, 60, 2**30, 0, 1, 0, 0, to, tail, ""])
        return mid

    async def pull(self, uid: int) -> Any:
        names = [PREFIX + name for name in (b"epoch", b"clock", b"heads", b"outbox", b"asleep", b"seen")]
        names += [PREFIX + b"in:%d" % uid, PREFIX + b"chan:%d" % uid, PREFIX + b"ch:", PREFIX + b"propagating"]
        names += [PREFIX + b"th:", PREFIX + b"unseen"]
        now = time.time_ns() // 1000
        return await self._run("pull", names, [0, 10, 10**6, now, WINDOW_US, "", uid, 0, 0, "", "", "global"])

    async def connect(self, uid: int) -> Any:
        names = [PREFIX + name for name in (b"epoch", b"seen", b"dev:", b"on:", b"online", b"presence")]
        names += [PREFIX + name for name in (b"presence:feed", b"clock", b"asleep", b"unseen", b"gone:x")]
        now = time.time_ns() // 1_000_000
        return await self._run("presence_connect", names, [4096, now, 60_000, 0, uid, "phone", now, "n"])

    async def sweep(self) -> Any:
        names = [PREFIX + name for name in (b"epoch", b"seen", b"asleep", b"in:", b"dev:")]
        return await self._run("sweep", names, [2**50, 2**50, 100])

    async def rebuild(self) -> None:
        """Does what its recovery begins with."""
        taken = await self._redis.set(PREFIX + b"rebuild:lock", "token", nx=True, px=60_000)
        assert not taken

    async def archive(self) -> Any:
        await self._redis.xgroup_create(PREFIX + b"outbox", "archive", id="0", mkstream=True)

    async def _run(self, name: str, names: list[bytes], arguments: list[Any]) -> Any:
        text = (DIRECTORY / "earlier" / f"{name}.lua").read_text()
        return await self._redis.eval(text, len(names), *names, *arguments)


class Later:
    """A process of this version."""

    def __init__(self, redis: RedisClient, directory: Path) -> None:
        self._redis = redis
        self.archive = open_archive(f"sqlite:///{directory}/archive.db")
        self.outbox = Outbox(redis)
        self.archiver = Archiver(self.outbox, handlers(self.archive), DeadLetters(redis))
        self.puller = Puller(redis, self.archive, self.outbox, window_us=WINDOW_US, roaming_us=WINDOW_US)

    def recovery(self, window_us: int = WINDOW_US) -> StoreRecovery:
        """Builds the state of a process that was started just now."""
        return StoreRecovery(self._redis, self.archive, self.archiver, window_us=window_us, sync_sender=True)

    async def mids(self, uid: int) -> list[int]:
        return [message.mid for message in (await self.puller.pull(uid, 0, 1000)).messages]


@pytest_asyncio.fixture
async def earlier(redis: RedisClient) -> Earlier:
    return Earlier(redis)


@pytest_asyncio.fixture
async def later(redis: RedisClient, tmp_path: Path) -> AsyncIterator[Later]:
    process = Later(redis, tmp_path)
    await process.archive.migrate()
    yield process
    await process.archive.close()


async def everything(redis: RedisClient) -> dict[bytes, Any]:
    return {key: await redis.dump(key) async for key in redis.scan_iter(count=1000)}


async def test_a_store_of_the_layout_before_is_converted(
    earlier: Earlier, later: Later, redis: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    await earlier.begin(1, 2, 3)
    await redis.hset(PREFIX + b"asleep", "3", "0")
    said = [await earlier.say(2, 1), await earlier.say(3, 1), await earlier.say(channel="global")]
    assert (await earlier.pull(2))[6][0] == 0
    clock = int(await redis.get(keys.CLOCK) or 0)
    epoch = await later.recovery().ensure()
    assert epoch != "earlier"
    assert await later.recovery().ensure() == epoch
    assert [record.msg["event"] for record in caplog.records] == ["store_converted"]  # type: ignore[index]
    assert int(await redis.get(keys.CLOCK) or 0) > clock
    assert await later.mids(1) == said
    assert await later.mids(2) == [said[0], said[2]]
    assert await later.mids(3) == said[1:], "a user who was dormant finds what was in the outbox alone"
    assert (await later.puller.pull(1, said[-1], 10, "earlier")).reset
    assert await later.outbox.length() == await later.outbox.size() == 0
    left = [key async for key in redis.scan_iter(match=PREFIX + b"*")]
    assert [key for key in left if key.startswith((PREFIX + b"in:", PREFIX + b"ch:"))] == []


async def test_processes_of_the_version_before_write_nothing_any_more(
    earlier: Earlier, later: Later, redis: RedisClient
) -> None:
    await earlier.begin(1, 2)
    await earlier.say(2, 1)
    await later.recovery().ensure()
    before = await everything(redis)
    for call in (
        earlier.say(2, 1),
        earlier.say(channel="global"),
        earlier.pull(2),
        earlier.connect(2),
        earlier.sweep(),
    ):
        with pytest.raises(RedisRefused, match="EMPTY"):
            await call
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await earlier.archive()
    await earlier.rebuild()
    assert await everything(redis) == before


async def test_nothing_is_lost_while_the_archive_is_away(
    earlier: Earlier, later: Later, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await earlier.begin(1, 2)
    said = [await earlier.say(2, 1), await earlier.say(2, 1)]

    async def away(*_: Any) -> None:
        raise ArchiveAway("away")

    with monkeypatch.context() as patched:
        patched.setattr(later.archive, "store_messages", away)
        for _ in range(2):
            with pytest.raises(ArchiveAway):
                await later.recovery().ensure()
    with pytest.raises(RedisRefused, match="EMPTY"):
        await earlier.say(2, 1)
    await later.recovery().ensure()
    assert await later.mids(2) == said


async def test_a_process_of_the_version_before_that_rebuilds_is_waited_for(
    earlier: Earlier, later: Later, redis: RedisClient
) -> None:
    await earlier.begin(1, 2)
    said = await earlier.say(2, 1)
    await redis.set(keys.EARLIER_REBUILD_LOCK, "token of its own", px=60_000)
    with pytest.raises(StoreEmpty, match="an earlier version is rebuilding"):
        await later.recovery().ensure()
    assert await redis.exists(keys.EARLIER_EPOCH)
    await redis.delete(keys.EARLIER_REBUILD_LOCK)
    await later.recovery().ensure()
    assert await later.mids(2) == [said]


async def test_an_empty_redis_is_closed_to_the_version_before(
    earlier: Earlier, later: Later, redis: RedisClient
) -> None:
    await later.recovery().ensure()
    await earlier.rebuild()
    with pytest.raises(RedisRefused, match="EMPTY"):
        await earlier.say(2, 1)


@pytest.mark.parametrize("layout", ["4", "1", "two"])
async def test_a_layout_that_is_not_known_is_left_alone(later: Later, redis: RedisClient, layout: str) -> None:
    await redis.set(keys.LAYOUT, layout)
    before = await everything(redis)
    for attempt in (later.recovery().ensure, later.recovery().rebuild, later.recovery().epoch):
        with pytest.raises(StoreUnknown, match=f"layout in Redis is '{layout}'"):
            await attempt()
    assert {key: value for key, value in (await everything(redis)).items() if b"lock" not in key} == before


async def test_a_layout_that_is_not_known_over_http(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        pass
    async with connect(own_redis.url) as redis:
        await redis.rename(keys.EPOCH, b"a later version's epoch")
        await redis.set(keys.LAYOUT, "4")
    async with running_app(own_redis.url, tmp_path) as app:
        sender, receiver = new_uid(), new_uid()
        answer = await app.publish(f"single/{receiver}", {"id": "a"}, sender)
        assert answer.status == 503
        ready = await app.request("GET", "/readyz")
        assert ready.status == 503
        assert ready.json["redis"] == "unknown"
        assert "layout in Redis is '4'" in ready.json["error"]["message"]


async def test_a_window_that_was_lowered_frees_what_lies_beyond_it(later: Later, redis: RedisClient) -> None:
    await later.recovery().ensure()
    await redis.zadd(keys.SEEN, {"1": 1, "2": 1})
    appender = Appender(redis, window_us=WINDOW_US, repeat_seconds=60, outbox_limit=2**30)
    appender.start()
    now = time.time_ns() // 1000
    for days in (6, 5, 3, 0):
        mid = now - days * DAY_US
        await redis.zadd(keys.inbox(2, span(mid)), {str(mid): mid})
        await redis.hset(keys.bodies(span(mid)), str(mid), "record")
    await later.recovery(4 * DAY_US).ensure()
    assert await inboxes_of(redis, 2) == [keys.inbox(2, span(now - days * DAY_US)) for days in (3, 0)]
    left = sorted([key async for key in redis.scan_iter(match=keys.BODIES_PREFIX + b"*")])
    assert left == [keys.bodies(span(now - days * DAY_US)) for days in (3, 0)]
    await appender.stop()


async def test_a_window_that_was_raised_keeps_what_is_there_as_long(later: Later, redis: RedisClient) -> None:
    await later.recovery(DAY_US).ensure()
    await redis.zadd(keys.SEEN, {"1": 1, "2": 1})
    appender = Appender(redis, window_us=DAY_US, repeat_seconds=60, outbox_limit=2**30)
    appender.start()
    await appender.append(Inbox(2), "1", "a", 0, True, b"{}")
    await appender.stop()
    await later.recovery().ensure()
    lasting = [await redis.ttl(key) async for key in redis.scan_iter(match=keys.BODIES_PREFIX + b"*")]
    lasting += [await redis.ttl(key) for key in await inboxes_of(redis, 2)]
    assert len(lasting) == 2
    assert min(lasting) > WINDOW_US // 1_000_000


async def test_what_dormant_users_missed_survives_a_window_that_was_raised(later: Later, redis: RedisClient) -> None:
    await later.recovery(DAY_US).ensure()
    await redis.zadd(keys.SEEN, {"1": 1})
    await redis.hset(keys.DORMANT, "2", "0")
    missed = await said(redis, DAY_US, Inbox(2))
    await later.recovery().ensure()
    assert await later.mids(2) == [missed]


async def test_a_window_that_was_raised_is_complete_before_it_is_put_back(
    later: Later, redis: RedisClient, tmp_path: Path
) -> None:
    """The archive is away when the process begins, which then answers pulls from what Redis keeps."""
    await later.recovery(1).ensure()
    await redis.zadd(keys.SEEN, {"1": 1, "2": 1})
    mid = await said(redis, 1, Inbox(2))
    await later.archiver.step()
    await redis.delete(keys.bodies(span(mid)), *await inboxes_of(redis, 2))
    archive = open_archive("mysql://root@127.0.0.1:1/im")
    with pytest.raises(ArchiveAway):
        await StoreRecovery(redis, archive, later.archiver, window_us=WINDOW_US, sync_sender=True).ensure()
    await archive.close()
    assert await later.mids(2) == [mid]


async def test_a_process_with_a_shorter_window_takes_nothing_away_that_was_put_back(
    later: Later, redis: RedisClient
) -> None:
    await later.recovery(DAY_US).ensure()
    await redis.zadd(keys.SEEN, {"1": 1, "2": 1})
    await later.recovery().ensure()
    old = time.time_ns() // 1000 - DAY_US * 3 // 2
    for key in (keys.inbox(2, span(old)), keys.channel(GLOBAL.channel)):
        await redis.zadd(key, {str(old): old})
    await redis.hset(keys.bodies(span(old)), str(old), f"{old}\nsingle/2\n1\na\n0\nj\n{{}}")
    await said(redis, DAY_US, GLOBAL)
    await said(redis, DAY_US, Inbox(2))
    assert (await later.mids(2))[0] == old
    assert await redis.zscore(keys.channel(GLOBAL.channel), str(old))


async def said(redis: RedisClient, window_us: int, to: Address) -> int:
    """Stores a message of user 1, by a process with such a window; its id."""
    appender = Appender(redis, window_us=window_us, repeat_seconds=60, outbox_limit=2**30)
    appender.start()
    stored = await appender.append(to, "1", "a", 0, True, b"{}")
    await appender.stop()
    return stored.mid
