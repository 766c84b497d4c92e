"""Starts one service for all tests that need no special settings, Redis servers that a test may kill, and a cluster."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from hooks.server import logs
from tests.cluster import TestCluster
from tests.integration import archives
from tests.integration.app import App, new_uid, running_app
from tests.servers import RedisServer, program


class Place(NamedTuple):
    """Where the store of a test lies. kind: redis or valkey, each by itself, or cluster."""

    kind: str
    url: str
    shards: int


@pytest.fixture(scope="session", autouse=True)
def logs_as_served() -> None:
    """Keeps structlog from writing tracebacks with all variables, each of which takes a second."""
    logs.configure("info")


@pytest.fixture(scope="session")
def common_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of all services that need no special one, and with it their archive."""
    server = RedisServer(tmp_path_factory.mktemp("common_redis"), program("redis-server"))
    archives.share(server.url, server.directory)
    server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """The service with its usual settings. All tests share its state, so each uses its own users."""
    directory = tmp_path_factory.mktemp("app")
    async with running_app(common_redis.url, directory, public_port=0, operators="ops,9001") as running:
        yield running


@pytest.fixture
def uid() -> str:
    return new_uid()


@pytest.fixture
def other_uid() -> str:
    return new_uid()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test alone, to fill, wipe, stop or kill."""
    server = RedisServer(tmp_path / "redis", program("redis-server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def common_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    with TestCluster(tmp_path_factory.mktemp("cluster"), program("redis-server")).started() as cluster:
        yield cluster


@pytest.fixture
def cluster(common_cluster: TestCluster) -> TestCluster:
    """Three masters and three replicas of Redis: all of them up, in step, and empty."""
    common_cluster.mend()
    return common_cluster


@pytest.fixture(
    params=[("redis", 1), ("redis", 3), ("valkey", 1), ("valkey", 3), ("cluster", 3)],
    ids=["redis", "redis-three-shards", "valkey", "valkey-three-shards", "cluster"],
)
def place(request: pytest.FixtureRequest) -> Place:
    """Each server with one shard and with three, and three masters with a shard and a replica each."""
    kind, shards = request.param
    server = request.getfixturevalue(kind if kind == "cluster" else f"one_{kind}")
    return Place(kind, server.url, shards)
