"""Messages that went from Redis while all clocks were ahead are pulled from the archive once they are right again."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from store.groups.groups import Limits
from tests.integration.faults.clocked import ClockedRedis
from tests.integration.groups.conftest import GID, Store

WEEK_AND_DAY = 8 * 86_400
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
        clocked.set_clock(seconds)
        monkeypatch.setattr(time, "time_ns", lambda: right() + seconds * 1_000_000_000)

    return set_clocks


@pytest_asyncio.fixture(params=[1, 3])
async def store(request: pytest.FixtureRequest, clocked: ClockedRedis, tmp_path: Path) -> AsyncIterator[Store]:
    limits = Limits(write=500, read=500, user=500, groups=1000, made=100, known=False)
    running = Store(clocked.url, tmp_path, limits, request.param)
    await running.start()
    yield running
    await running.stop()


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_clocks_that_were_ahead_for_a_while(store: Store, set_clocks: SetClocks, mode: str) -> None:
    members = [1, 10_000, 20_000]  # They lie in different shards.
    await store.create(*members[1:], mode=mode)
    before = [await store.say(1)]
    await store.archive_all()
    set_clocks(WEEK_AND_DAY)
    ahead = [await store.say(1) for _ in range(2)]
    set_clocks(0)
    after = [await store.say(1)]
    said = [each.mid for each in (*before, *ahead, *after)]
    topic = f"group/{GID}"
    for uid in members:
        pulled = [message.mid for message in await store.pull(uid) if message.topic == topic and message.sender == "1"]
        assert [mid for mid in pulled if mid in said] == said
