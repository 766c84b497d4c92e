"""Starts one stack for the tests that share it, and a separate one for those that stop and kill it."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.clients import Aiomqtt, Mosquitto, Mqtt
from tests.e2e.stack import Service, Stack

_uids = itertools.count(1001)


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from running(Stack(tmp_path_factory.mktemp("stack")))


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    yield from running(Stack(tmp_path))


def running(stack: Stack) -> Iterator[Stack]:
    """Started, and killed at the end."""
    try:
        stack.start()
        yield stack
    finally:
        stack.kill()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def service(shared_stack: Stack, http: aiohttp.ClientSession) -> Service:
    return Service(shared_stack, http)


@pytest.fixture(params=[Aiomqtt, Mosquitto])
def mqtt(request: pytest.FixtureRequest) -> Mqtt:
    client: Mqtt = request.param()
    return client


@pytest.fixture
def user() -> Callable[[], int]:
    """Each call gives the uid of somebody whom nobody has met."""
    return lambda: next(_uids)
