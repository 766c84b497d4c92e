"""Attackers go to the limit, each alone and all at once, while an honest pair talks: none of theirs is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import NamedTuple

import aiohttp
import pytest

from tests.e2e import attacker, stranger
from tests.e2e.conftest import running
from tests.e2e.honest import Ground, Pair, honest_pair
from tests.e2e.stack import Stack
from tests.servers import free_port

Move = Callable[[Ground, Pair], Coroutine[None, None, None]]

EVERYWHERE: list[Move] = [
    stranger.pulls_and_does_not_read,
    stranger.begins_and_does_not_go_on,
    stranger.connects_and_says_nothing,
    attacker.sends_all_at_once_to_one,
    attacker.goes_around_the_rules,
]
ONE_PORT: list[Move] = [
    *EVERYWHERE,
    attacker.floods_a_group,
    attacker.leaves_many_groups,
    attacker.invites_to_everything,
    attacker.calls_themself_somebody,
    stranger.logs_in_with_anything,
    stranger.has_the_provider_asked,
    stranger.plants_links,
]
PUBLIC_PORT: list[Move] = [*EVERYWHERE, attacker.calls_themself_somebody, attacker.sends_what_parsers_refuse]
"""With trusted sending."""


class Attacked(NamedTuple):
    stack: Stack
    public_port: int | None


@pytest.fixture(scope="module", params=["one port", "public port"])
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """A stack whose limits are within reach."""
    public_port = free_port() if request.param == "public port" else None
    settings = {
        "IM_SEND_BYTES": attacker.SEND_BYTES,
        "IM_USER_SESSIONS": attacker.USER_SESSIONS,
        "IM_GROUP_USER_LIMIT": attacker.GROUP_USER_LIMIT,
        "IM_GROUPS_PER_DAY": attacker.GROUPS_PER_DAY,
        "IM_USER_GROUPS": attacker.USER_GROUPS,
        "IM_PUBLIC_CONNECTIONS": stranger.PUBLIC_CONNECTIONS,
        "IM_OPEN_PULLS": stranger.OPEN_PULLS,
        "IM_REQUEST_SECONDS": stranger.REQUEST_SECONDS,
        "IM_PULL_RATE": 1000,
        **({"IM_PUBLIC_PORT": public_port, "IM_TRUSTED_SEND": "true"} if public_port else {}),
    }
    with stranger.hostile_provider() as provider:
        given = {name: str(value) for name, value in settings.items()} | {"IM_JWT_JWKS_URL": provider.url}
        for stack in running(Stack(tmp_path_factory.mktemp("attacked"), **given)):
            yield Attacked(stack, public_port)


@pytest.fixture
async def ground(attacked: Attacked, user: Callable[[], int]) -> AsyncIterator[Ground]:
    # Every request is a newcomer's.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        ground = Ground(attacked.stack, http, attacked.public_port, user)
        yield ground
        ground.release()


async def talked_through(ground: Ground, moves: list[Move]) -> None:
    async with honest_pair(ground) as pair:
        await pair.talk()
        async with asyncio.TaskGroup() as attack:
            attackers = [attack.create_task(move(ground, pair)) for move in moves]
            while not all(each.done() for each in attackers):
                await pair.talk()
        await pair.talk()  # and what they hold, they hold still
        ground.release()
        await pair.talk()


def name(move: Move) -> str:
    return getattr(move, "__name__", "").replace("_", " ")


@pytest.mark.parametrize("attacked", ["one port"], indirect=True)
@pytest.mark.parametrize("move", ONE_PORT, ids=name)
async def test_one_attacker_on_one_port(ground: Ground, move: Move) -> None:
    await talked_through(ground, [move])


@pytest.mark.parametrize("attacked", ["one port"], indirect=True)
async def test_all_at_once_on_one_port(ground: Ground) -> None:
    await talked_through(ground, ONE_PORT)


@pytest.mark.parametrize("attacked", ["public port"], indirect=True)
@pytest.mark.parametrize("move", PUBLIC_PORT, ids=name)
async def test_one_attacker_on_the_public_port(ground: Ground, move: Move) -> None:
    await talked_through(ground, [move])


@pytest.mark.parametrize("attacked", ["public port"], indirect=True)
async def test_all_at_once_on_the_public_port(ground: Ground) -> None:
    await talked_through(ground, PUBLIC_PORT)
