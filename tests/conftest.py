"""Starts one server of each kind for the whole run; each test gets it empty, or its own database."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import asyncmy
import pytest
from hypothesis import HealthCheck, settings

from store.redis.client import RedisClient
from store.redis.connection import connect
from tests.loops import TidyLoop
from tests.servers import MariaServer, RedisServer, program, valkey_program

# The same examples in every run, whatever else the machine does; --hypothesis-profile=default looks for new ones.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("steady")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], TidyLoop]]:
    return {"tidy": TidyLoop}


@pytest.fixture(scope="session", params=["redis", "valkey"])
def redis_server(request: pytest.FixtureRequest) -> RedisServer:
    server: RedisServer = request.getfixturevalue(f"one_{request.param}")
    return server


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from _running(RedisServer(tmp_path_factory.mktemp("redis"), program("redis-server")))


@pytest.fixture(scope="session")
def one_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from _running(RedisServer(tmp_path_factory.mktemp("valkey"), valkey_program()))


def _running(server: RedisServer) -> Iterator[RedisServer]:
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[RedisClient]:
    """A client of an empty Redis; every test that asks for it runs on Redis and on Valkey."""
    client = connect(redis_server.url, timeout=30)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def maria_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaServer]:
    server = MariaServer(tmp_path_factory.mktemp("maria"))
    server.start()
    yield server
    server.stop()


_databases = itertools.count(1)


@pytest.fixture
async def maria_url(maria_server: MariaServer) -> AsyncIterator[str]:
    """The `mysql://` address of a new, empty database."""
    name = f"im_{next(_databases)}"
    connection = await asyncmy.connect(host="127.0.0.1", port=maria_server.port, user="root", autocommit=True)
    async with connection.cursor() as cursor:
        await cursor.execute(f"CREATE DATABASE {name}")
    yield maria_server.url(name)
    async with connection.cursor() as cursor:
        await cursor.execute(f"DROP DATABASE {name}")
    connection.close()
