"""A running `emqx-im dev` and a browser for the tests of one module, and an operator before its console."""

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.e2e.conftest import running
from tests.e2e.console.operators import Operator, chromium, operator
from tests.e2e.stack import Service, Stack

VIEWER = "a viewer's token"
_numbers = itertools.count(20001, 8192)
"""Users who follow each other lie in different shards, where there are several."""


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The store has as many shards as the module says in SHARDS, or one."""
    shards = str(getattr(request.module, "SHARDS", 1))
    yield from running(Stack(tmp_path_factory.mktemp("console"), IM_VIEWER_TOKEN=VIEWER, IM_SHARDS=shards))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running_browser:
        yield running_browser


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def service(stack: Stack, http: Any) -> Service:
    return Service(stack, http)


@pytest_asyncio.fixture(loop_scope="module")
async def zoe(browser: Browser, stack: Stack) -> AsyncIterator[Operator]:
    async with operator(browser, stack) as seen:
        await seen.arrive()
        yield seen


@pytest.fixture
def uid() -> int:
    return next(_numbers)
