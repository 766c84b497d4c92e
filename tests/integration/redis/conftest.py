"""Starts a store of two shards for the tests of links and gates."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from store.redis.client import RedisClient
from tests.integration.redis.linked import (
    Store,
    running_store,
)
from tests.servers import RedisServer


@pytest_asyncio.fixture
async def store(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Store]:
    async with running_store(redis_server.url, tmp_path) as running:
        yield running
