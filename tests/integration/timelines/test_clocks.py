"""Messages are pulled wherever they are, from Redis or from the archive, though clocks were wrong for a while."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from store.groups.groups import Limits
from tests.integration.faults.clocked import ClockedRedis
from tests.integration.groups.conftest import GID, Store

HOUR, DAY = 3600, 86_400
MEMBERS = [1, 10_000, 20_000]
"""They lie in different ones of three shards."""

SetClocks = Callable[[int], None]


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[ClockedRedis]:
    server = ClockedRedis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def set_clocks(clocked: ClockedRedis, monkeypatch: pytest.MonkeyPatch) -> SetClocks:
    """Sets the clocks of Redis and of the service so many seconds ahead."""
    right = time.time_ns

    def set_clocks(seconds: int) -> None:
        clocked.step_clock(seconds)
        monkeypatch.setattr(time, "time_ns", lambda: right() + seconds * 1_000_000_000)

    return set_clocks


@asynccontextmanager
async def group(url: str, directory: Path, limits: Limits, shards: int, mode: str) -> AsyncIterator[Store]:
    store = Store(url, directory, limits, shards)
    await store.start()
    try:
        await store.create(*MEMBERS[1:], mode=mode)
        yield store
    finally:
        await store.stop()


async def said(store: Store, uid: int) -> list[int]:
    """Returns the ids of what the user pulls of what was said in the group."""
    topic = f"group/{GID}"
    return [message.mid for message in await store.pull(uid) if (message.topic, message.sender) == (topic, "1")]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("mode", ["write", "read"])
async def test_what_went_while_all_clocks_were_ahead_comes_from_the_archive(
    clocked: ClockedRedis, tmp_path: Path, limits: Limits, set_clocks: SetClocks, shards: int, mode: str
) -> None:
    async with group(clocked.url, tmp_path, limits, shards, mode) as store:
        messages = [await store.say(1)]
        await store.archive_all()
        set_clocks(8 * DAY)
        messages += [await store.say(1) for _ in range(2)]
        set_clocks(0)
        messages += [await store.say(1)]
        for uid in MEMBERS:
            assert await said(store, uid) == [message.mid for message in messages]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("mode", ["write", "read"])
async def test_nothing_goes_while_the_clock_of_redis_alone_is_ahead(
    clocked: ClockedRedis, tmp_path: Path, limits: Limits, set_clocks: SetClocks, shards: int, mode: str
) -> None:
    set_clocks(-7 * DAY + HOUR)
    async with group(clocked.url, tmp_path, limits, shards, mode) as store:
        message = await store.say(1)
        set_clocks(0)
        clocked.step_clock(20 * HOUR)
        for uid in MEMBERS:
            assert await said(store, uid) == [message.mid]


@pytest.fixture
def limits() -> Limits:
    return Limits(write=500, read=500, user=500, groups=1000, made=100, known=False)
