"""Tests a user who was away: many messages wait, one conversation is noisy, and more arrive while they read."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from random import Random

import pytest

from tests.integration.app import new_uid
from tests.integration.faults.conftest import ROUNDS
from tests.integration.faults.load import Device, Load
from tests.integration.faults.world import World

WAITING = 5000
CONVERSATIONS = 30
NOISY = 4000
"""How many of the waiting messages belong to one conversation."""
AT_ONCE = 64
LIMITS = range(1, 1001)
CHAINS = 20
"""Limits, in one round, for which all pages are pulled."""
LIVE_SECONDS = 0.02
"""Between messages that arrive meanwhile."""


@pytest.fixture
async def away(world: World, chance: Random) -> Device:
    """A device that has pulled what waits for its user, each message once and in the order of its sender."""
    uid = new_uid()
    noisy, *quiet = [new_uid() for _ in range(CONVERSATIONS)]
    senders = [noisy] * NOISY + [quiet[number % len(quiet)] for number in range(WAITING - NOISY)]
    chance.shuffle(senders)
    load = Load(world.http, world.url, [], chance)
    todo = iter(enumerate(senders))

    async def publish() -> None:
        for number, sender in todo:
            await load.publish(f"single/{uid}", sender, {"id": f"{number}", "body": number})

    # A user who was never seen has no inbox in Redis: this one is to be read from there.
    await Device(world.http, world.url, uid, chance).to_the_end()
    await asyncio.gather(*(publish() for _ in range(AT_ONCE)))
    device = Device(world.http, world.url, uid, chance)
    await device.to_the_end(max(LIMITS))
    assert set(device.held) == set(load.answered)
    assert len(device.held) == WAITING
    return device


@pytest.fixture
async def live(world: World, away: Device, chance: Random) -> AsyncIterator[Load]:
    """Messages to this user that arrive all the while."""
    load = Load(world.http, world.url, [], chance)

    async def publish() -> None:
        for number in itertools.count(WAITING):
            await load.publish(f"single/{away.uid}", "1", {"id": f"{number}", "body": number})
            await asyncio.sleep(LIVE_SECONDS)

    publishing = asyncio.create_task(publish())
    yield load
    publishing.cancel()
    await asyncio.wait([publishing])


async def test_everything_comes_once_whatever_the_limit(world: World, away: Device, live: Load, chance: Random) -> None:
    await pages_of_every_limit(world, away, chance)
    await chains(world, away, live, chance)
    assert live.answered


async def pages_of_every_limit(world: World, away: Device, chance: Random) -> None:
    """From a random place on, a page holds the next messages, as many as asked for."""
    waiting = list(away.held)
    limits = iter(LIMITS)

    async def probe() -> None:
        for limit in limits:
            start = chance.randrange(WAITING)
            device = Device(world.http, world.url, away.uid, chance)
            device.cursor = away.ids[start - 1] if start else 0
            await device.page(limit)
            page = list(device.held)
            assert page[: WAITING - start] == waiting[start : start + limit]
            assert len(page) == limit or start + limit > WAITING

    await asyncio.gather(*(probe() for _ in range(4)))


async def chains(world: World, away: Device, live: Load, chance: Random) -> None:
    """From the start to the end, each message comes once, and so does what arrives meanwhile."""
    waiting = list(away.held)
    limits = {1, max(LIMITS), *chance.sample(LIMITS, min(CHAINS * ROUNDS, len(LIMITS)))}

    async def follow(limit: int) -> None:
        device = Device(world.http, world.url, away.uid, chance)
        await device.to_the_end(limit)
        arrived = set(live.answered)
        await device.to_the_end(limit)
        assert list(device.held)[:WAITING] == waiting
        assert set(device.held) - set(waiting) >= arrived

    await asyncio.gather(*map(follow, sorted(limits)))
