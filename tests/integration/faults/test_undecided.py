"""The service restarted, Redis frozen, processes replaced, while members send and subscribe on new connections.

The broker keeps a denial for an hour, one that nobody decided too. Afterwards it must be as if the outage had not been.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.app import new_uid, until
from tests.integration.faults.brokered import Brokered, Member, member
from tests.integration.served import Served
from tests.servers import RedisServer, program

SECONDS = 60
"""For what must happen within seconds, on a machine that does other things, too."""
RESTART_SECONDS = 1.5
FROZEN_SECONDS = 4.0


class World:
    def __init__(self, directory: Path, redis: RedisServer, brokered: Brokered) -> None:
        self._directory = directory
        self.redis = redis
        self.brokered = brokered
        self._ports: dict[str, int] = {}
        self._starts = 0
        self.served: Served

    async def start(self) -> None:
        self._starts += 1
        self.served = Served(
            self._directory / str(self._starts),
            self.redis.url,
            archive_url=f"sqlite:///{self._directory / 'archive.db'}",
            **self.brokered.settings,
            **self._ports,
        )
        self._ports = {"http_port": self.served.port}
        await self.served.wait_for("serving")


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[World]:
    redis = RedisServer(directory / "redis", program("redis-server"))
    redis.start()
    world = World(directory, redis, Brokered())
    try:
        await world.start()
        async with world.brokered.running(world.served.url):
            yield world
    finally:
        world.served.kill()
        redis.kill()


async def restarted(world: World) -> None:
    """Nobody listens for a while, and everybody who asks is refused."""
    assert await world.served.stop() == 0
    await asyncio.sleep(RESTART_SECONDS)
    await world.start()


async def killed(world: World) -> None:
    world.served.kill()
    await asyncio.sleep(RESTART_SECONDS)
    await world.start()


async def frozen(world: World) -> None:
    """A user who was not asked for before is in no memory, because the process is new."""
    world.redis.hang()
    await asyncio.sleep(FROZEN_SECONDS)
    world.redis.resume()


async def frozen_for_longer_than_a_question_is_held(world: World) -> None:
    world.redis.hang()
    await asyncio.sleep(FROZEN_SECONDS * 2)
    world.redis.resume()


Outage = Callable[[World], Coroutine[Any, Any, None]]


async def group_of(world: World, owner: Member, *members: str) -> str:
    """Returns the topic of a new group that the serving process has no memory of."""
    topic = f"group/{new_uid()}"
    await owner.publish(f"{topic}/create", members=members)
    async with asyncio.timeout(SECONDS):
        await owner.hears("im.group.created", gid=topic.partition("/")[2])
    await restarted(world)
    return topic


@pytest.mark.parametrize(
    ("outage", "reconnect_seconds"),
    [
        (restarted, 0.0),
        # The broker looks every so often only whether the service is back.
        (killed, 3.0),
        (frozen, 0.0),
        (frozen_for_longer_than_a_question_is_held, 0.0),
    ],
)
async def test_a_member_who_sends_first_in_an_outage_is_not_silenced(
    tmp_path: Path, outage: Outage, reconnect_seconds: float
) -> None:
    owner, uid = new_uid(), new_uid()
    async with opened(tmp_path) as world:
        async with member(world.brokered, owner) as making:
            topic = await group_of(world, making, uid)
        world.brokered.broker.faults.reconnect_seconds = reconnect_seconds
        async with member(world.brokered, uid) as sending:
            failing = asyncio.create_task(outage(world))
            await asyncio.sleep(0.3)
            # As long as the outage, and ten seconds; what a resend of the outage was lost, one after it is not.
            sent = await sending.send(topic, "during")
            await failing
            assert sent or await sending.send(topic, "during")
            assert await sending.send(topic, "after")


@pytest.mark.parametrize("outage", [killed, frozen_for_longer_than_a_question_is_held])
async def test_a_subscription_that_was_refused_in_an_outage_is_made_good(tmp_path: Path, outage: Outage) -> None:
    owner, uid = new_uid(), new_uid()
    async with opened(tmp_path) as world, member(world.brokered, owner) as sending:
        topic = await group_of(world, sending, uid)
        failing = asyncio.create_task(outage(world))
        await asyncio.sleep(0.3)
        async with member(world.brokered, uid) as listening:
            granted = await listening.subscribe(topic)
            await failing
            async with asyncio.timeout(SECONDS):
                while not granted:
                    count = len(listening.heard)
                    await until(partial(told_after, listening, topic, count), SECONDS)
                    granted = await listening.subscribe(topic)
                await sending.send(topic, "after")
                await listening.hears_on(topic, "after")


async def told_after(listening: Member, topic: str, count: int) -> bool:
    """Returns whether the member was told to subscribe the topic, after so much that they heard before."""
    return any(
        payload.get("type") == "im.subscribe" and topic in [each["topic"] for each in payload["body"]["topics"]]
        for _, payload in listening.heard[count:]
    )
