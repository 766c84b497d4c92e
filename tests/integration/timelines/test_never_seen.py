"""Users who were never seen: what they are sent takes next to nothing of Redis, and is all there when they come."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.addresses import Group, Inbox
from store.presence.presence import Device, Presence
from store.redis import keys
from store.redis.connection import connect
from store.timelines.summary import Timelines
from store.timelines.sweep import Sweeper
from tests.integration.app import App, new_uid, running_app
from tests.integration.groups.conftest import GID, WINDOW_US, Store, uids
from tests.integration.groups.conftest import limits as limits
from tests.integration.groups.conftest import store as store
from tests.integration.inboxes import ids_in
from tests.integration.memory import memory_of_keys
from tests.servers import RedisServer

NEVER_SEEN = 5001
HOUR_MS = 3_600_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def test_a_group_of_uids_that_do_not_exist_takes_next_to_nothing(store: Store) -> None:
    members = uids(NEVER_SEEN, 499)
    before = await memory_of_keys(store.redis)
    await store.create(*members)
    for number in range(20):
        payload = b'{"body":"%b"}' % (b"x" * 16_000)
        await store.appender.append(Group(GID), "1", f"m{number}", 0, True, payload)
    await store.archive_all()
    assert await memory_of_keys(store.redis) - before < 20 * 20_480 + 499 * 2000
    assert await store.redis.keys(keys.INBOX_PREFIX + b"5*") == []
    assert await store.redis.zcard(keys.UNSEEN) == 499


@pytest.mark.parametrize("by", ["pull", "connect"])
async def test_who_comes_for_the_first_time_finds_everything(store: Store, by: str) -> None:
    private = [(await store.say(1, -NEVER_SEEN)).mid for _ in range(3)]
    invited = (await store.create(2, NEVER_SEEN)).id
    said = [(await store.say(1)).mid for _ in range(2)]
    await store.command("change_mode", GID, 1, mode="read")
    said.append((await store.say(2)).mid)
    own = (await store.say(NEVER_SEEN, -1)).mid
    assert await ids_in(store.redis, NEVER_SEEN) == []
    await store.archive_all()
    if by == "connect":
        await Presence(store.redis).connected(Device(NEVER_SEEN, "phone", now_ms()))
        head = await Timelines(store.redis, window_us=WINDOW_US).head(NEVER_SEEN)
        assert head >= own, "the device hears that there is something to pull"
    assert await store.texts(NEVER_SEEN, 2) == [*private, *said, own]
    assert {control.kind for control in await store.controls(NEVER_SEEN)} == {"invite", "changed"}
    later = [(await store.say(1, -NEVER_SEEN)).mid, (await store.say(1)).mid]
    assert await ids_in(store.redis, NEVER_SEEN) == later[:1]
    assert await store.redis.zscore(keys.UNSEEN, str(NEVER_SEEN)) is None
    assert await store.texts(NEVER_SEEN, 2) == [*private, *said, own, *later]
    assert invited < said[0]


async def test_who_is_new_and_was_sent_nothing_needs_no_archive(store: Store) -> None:
    """It is away: nothing takes what waits for it."""
    await store.say(1, -2)
    assert await store.texts(NEVER_SEEN) == []
    mid = (await store.say(1, -NEVER_SEEN)).mid
    assert await store.texts(NEVER_SEEN) == [mid]


async def test_who_was_never_seen_is_forgotten_when_nothing_is_left_for_them(store: Store) -> None:
    sweeper = Sweeper(store.redis, zombie_days=30, window_us=WINDOW_US, roaming_us=WINDOW_US)
    await store.create(*uids(NEVER_SEEN, 450))
    window_ms = WINDOW_US // 1000
    await sweeper.sweep()
    assert await store.redis.zcard(keys.UNSEEN) == 450
    names: Any = await store.redis.zrange(keys.UNSEEN, 0, -1)
    await store.redis.zadd(keys.UNSEEN, {name: now_ms() - window_ms - 3 * HOUR_MS for name in names[:400]})
    await store.redis.zadd(keys.UNSEEN, {name: now_ms() - window_ms - HOUR_MS for name in names[400:]})
    await sweeper.sweep()
    assert await store.redis.zcard(keys.UNSEEN) == 50
    await store.say(1)
    oldest: Any = await store.redis.zrange(keys.UNSEEN, 0, 0, withscores=True)
    assert oldest[0][1] > now_ms() - HOUR_MS, "when they were skipped last is noted anew"


async def test_what_somebody_never_seen_was_sent_is_not_missed_in_redis(store: Store) -> None:
    """When it was started again it is compared with the archive."""
    await store.appender.append(Inbox(NEVER_SEEN), "0", "s", 0, True, b"{}")
    await store.archive_all()
    epoch = await store.recovery.ensure()
    store.recovery._runs = {}
    assert await store.recovery.ensure() == epoch
    await store.redis.zrem(keys.UNSEEN, str(NEVER_SEEN))
    store.recovery._runs = {}
    assert await store.recovery.ensure() != epoch


@pytest_asyncio.fixture
async def app(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(own_redis.url, tmp_path) as running:
        yield running


async def test_over_http(app: App, own_redis: RedisServer) -> None:
    friend, newcomer = new_uid(), new_uid()
    await app.connect(friend)
    assert (await app.publish(f"single/{newcomer}", {"id": "a"}, friend)).status == 204
    gid = await app.group(friend, newcomer)
    assert (await app.publish(f"group/{gid}", {"id": "b"}, friend)).status == 204
    async with connect(own_redis.url) as redis:
        assert await ids_in(redis, int(newcomer)) == []
    page = (await app.pull(newcomer)).json
    assert [each["id"] for each in page["messages"] if each["from"] != "0"] == ["a", "b"]
    assert (await app.publish(f"single/{newcomer}", {"id": "c"}, friend)).status == 204
    page = (await app.pull(newcomer, page["last_id"], epoch=page["epoch"])).json
    assert [each["id"] for each in page["messages"]] == ["c"]
