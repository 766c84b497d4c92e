from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.operations.dead_letters import DeadLetters
from store.redis import keys
from store.redis.client import RedisClient
from tests.servers import MariaServer


@pytest.fixture(params=["mysql", "sqlite"])
def archive_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty archive; every test that asks for it runs on both backends."""
    if request.param == "mysql":
        url: str = request.getfixturevalue("maria_url")
        return url
    return f"sqlite:///{tmp_path}/im.db"


@pytest.fixture
async def archive(archive_url: str) -> AsyncIterator[Archive]:
    opened = open_archive(archive_url)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def maria_archive(maria_url: str) -> AsyncIterator[Archive]:
    opened = open_archive(maria_url)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def own_maria(tmp_path: Path) -> Iterator[MariaServer]:
    """A server that the test may kill."""
    server = MariaServer(tmp_path / "maria")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def live_redis(redis: RedisClient) -> RedisClient:
    """A Redis that has begun its life, as dead letters need it."""
    await redis.set(keys.EPOCH, b"test")
    return redis


@pytest.fixture
def archiver_on(live_redis: RedisClient) -> Callable[..., Archiver]:
    """Makes archivers that wait `idle` seconds before they take over another's entries."""

    def make(archive: Archive, idle: float = 30.0) -> Archiver:
        return Archiver(Outbox(live_redis, idle=idle), handlers(archive), DeadLetters(live_redis))

    return make
