"""kill -9 of each part at random moments of a load: what was answered 204 is there once, in timelines and archive."""

import asyncio
import socket
from random import Random

import pytest

from store.archive.outbox import GROUP
from store.redis import keys
from tests.integration.app import until
from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.impatient import IDLE_SECONDS
from tests.integration.faults.traffic import Traffic
from tests.integration.faults.world import World, start
from tests.servers import Server


@pytest.mark.parametrize("victim", ["service", "redis", "maria"])
async def test_kill(world: World, traffic: Traffic, chance: Random, victim: str) -> None:
    server: Server = getattr(world, victim)
    for _ in range(ROUNDS):
        traffic.start()
        await traffic.some()
        server.kill()
        await traffic.some(0.0, 0.3)
        await start(server)
        await traffic.some()
        await traffic.rest()
        await traffic.assert_each_once()


async def test_two_killed_at_once(world: World, traffic: Traffic, chance: Random) -> None:
    for _ in range(ROUNDS):
        traffic.start()
        await traffic.some()
        victims = chance.sample([world.redis, world.service, world.maria], 2)
        for server in victims:
            server.kill()
        for server in victims:
            await start(server)
        await traffic.rest()
        await traffic.assert_each_once()


async def test_mariadb_away_for_the_whole_load(world: World, traffic: Traffic, chance: Random) -> None:
    for _ in range(ROUNDS):
        world.maria.kill()
        traffic.start()
        await traffic.some(0.5, 1.5)
        await traffic.load.until_answered(100)
        await traffic.load.stop()
        await start(world.maria)
        traffic.load.start()
        await traffic.rest()
        await traffic.assert_each_once()


async def stopped_in_mid_batch(world: World, archiver: Server) -> None:
    """Stops the archiver (SIGSTOP) at a moment when it was given a batch and has not finished it."""
    async with world.client() as redis:

        async def reads() -> dict[str, int] | None:
            """Returns what Redis says of this archiver, once it has begun."""
            for consumer in await redis.xinfo_consumers(keys.OUTBOX, GROUP):
                if consumer["name"].decode().startswith(f"{socket.gethostname()}-{archiver.pid}-"):
                    return dict(consumer)
            return None

        async def caught() -> bool:
            archiver.hang()
            for _ in range(50):
                consumer = await reads()
                if consumer is not None and consumer["pending"]:
                    return True
            archiver.resume()
            return False

        await until(reads)
        await until(caught, 20)


async def test_kill_of_an_archiver_in_mid_batch(world: World, traffic: Traffic, chance: Random) -> None:
    archiver = world.archiver(1)
    for _ in range(ROUNDS):
        await start(archiver)
        traffic.start()
        await stopped_in_mid_batch(world, archiver)
        archiver.kill()
        await traffic.some()
        await traffic.rest()
        await traffic.assert_each_once()


async def test_archivers_racing(world: World, traffic: Traffic, chance: Random) -> None:
    """Three of them, of whom one is held up with a batch until another has taken it over, and then goes on with it."""
    slow, quick = world.archiver(1), world.archiver(2)
    for archiver in (slow, quick):
        await start(archiver)
    for _ in range(ROUNDS):
        traffic.start()
        await stopped_in_mid_batch(world, slow)
        await asyncio.sleep(IDLE_SECONDS * chance.uniform(1.5, 2.5))
        slow.resume()
        await traffic.some()
        await traffic.rest()
        await traffic.assert_each_once()
    for archiver in (slow, quick):
        assert archiver.running, archiver.log.read_text()[-2000:]
        archiver.stop()
