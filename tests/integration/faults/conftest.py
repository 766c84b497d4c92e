"""A seed that is shown, how many rounds, and a world that a test may break."""

import itertools
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncmy
import pytest

from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, opening, start
from tests.servers import MariaServer, RedisServer, valkey_program

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SEED = os.environ.get("CHAOS_SEED") or str(random.SystemRandom().randrange(10**9))
SECONDS_A_ROUND = 30

_databases = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """More rounds take longer."""
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.timeout(300 + SECONDS_A_ROUND * ROUNDS))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """The source of what is random in this test."""
    print(f"CHAOS_SEED={SEED} CHAOS_ROUNDS={ROUNDS}")  # noqa: T201
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture(scope="session")
def faults_maria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaServer]:
    """MariaDB for these tests alone: killed now and then, and started again."""
    server = MariaServer(tmp_path_factory.mktemp("faults_maria"))
    yield server
    if server.running:
        server.kill()


@pytest.fixture
async def open_world(tmp_path: Path, faults_maria: MariaServer) -> AsyncIterator[Open]:
    """Starts the service on a Redis of the test's choice."""
    if not faults_maria.running:
        await start(faults_maria)
    name = f"im_{next(_databases)}"
    connection = await asyncmy.connect(host="127.0.0.1", port=faults_maria.port, user="root", autocommit=True)
    async with connection.cursor() as cursor:
        await cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    async with opening(tmp_path, faults_maria, name) as open_it:
        yield open_it


@pytest.fixture
async def world(open_world: Open, tmp_path: Path) -> World:
    return await open_world(RedisServer(tmp_path / "valkey", valkey_program()))


@pytest.fixture
async def traffic(world: World, chance: random.Random) -> AsyncIterator[Traffic]:
    """A load on it that loses nothing."""
    async with Traffic(world, chance) as going:
        yield going
