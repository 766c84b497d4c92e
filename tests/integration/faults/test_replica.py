"""IM_REDIS_WAIT: a 204 means that a replica has the message too."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import Open, World, start
from tests.servers import RedisServer, valkey_program

UNDER_WAY = 0.3
"""Seconds after which what a replica took before it was stopped has been answered."""
SILENCE = 1.5
NEVER = 0.0


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path / "replica", valkey_program())
    await start(server)
    yield server
    if server.running:
        server.kill()


@pytest.fixture
async def replicated(open_world: Open, tmp_path: Path, replica: RedisServer) -> World:
    """A world that waits for one replica."""
    primary = RedisServer(tmp_path / "primary", valkey_program())
    primary.arguments += ["--repl-diskless-sync-delay", "0"]
    replica.arguments += ["--replicaof", f"127.0.0.1 {primary.port}"]
    replica.kill()
    world = await open_world(primary, IM_REDIS_WAIT="1")
    await start(replica)
    return world


async def test_nothing_is_answered_204_without_the_replica(
    replicated: World, replica: RedisServer, chance: Random
) -> None:
    async with Traffic(replicated, chance) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            await traffic.load.until_answered(50)
            replica.hang()
            await asyncio.sleep(UNDER_WAY)
            before = len(traffic.load.answered)
            await asyncio.sleep(SILENCE)
            assert len(traffic.load.answered) == before
            assert replicated.logged()["hook_try_again"]
            replica.resume()
            await traffic.load.until_answered(50)
            replica.kill()
            await traffic.some()
            await start(replica)
            await traffic.load.until_answered(50)
            await traffic.rest()
            await traffic.assert_each_once()


async def test_the_replica_has_what_was_answered(replicated: World, replica: RedisServer, chance: Random) -> None:
    """The primary dies with its disk, and what the replica has takes its place."""
    async with Traffic(replicated, chance, repeats=True) as traffic:
        for _ in range(ROUNDS):
            traffic.start()
            await traffic.load.until_answered(50)
            await traffic.some()
            replicated.redis.kill()
            await asyncio.to_thread(replica.stop)
            shutil.rmtree(replicated.redis.directory)
            shutil.copytree(replica.directory, replicated.redis.directory)
            await start(replicated.redis)
            await start(replica)
            await traffic.rest()
            await traffic.assert_nothing_archived_is_missing(NEVER, await traffic.archived())
