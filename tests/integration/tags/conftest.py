"""A store with tags, on a real Redis and a real archive."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.addresses import Tag
from store.groups.groups import Limits
from store.record import Message
from store.redis import keys
from store.redis.client import RedisClient
from store.tags.tags import MANUAL, HoldersChanged, Tags
from store.timelines.pull import Puller
from tests.integration.groups.conftest import WINDOW_US
from tests.integration.groups.conftest import Store as GroupStore
from tests.servers import RedisServer

TAG = "female"


class Store(GroupStore):
    """What a service has of the store, with tags."""

    def __init__(self, url: str, directory: Path, limits: Limits, **settings: Any) -> None:
        super().__init__(url, directory, limits, **settings)
        self.tags = Tags(
            self.redis, self.write_connection, window_us=WINDOW_US, repeat_seconds=3600, outbox_limit=2**30
        )

    async def give(self, *uids: int, tag: str = TAG, source: str = MANUAL) -> HoldersChanged:
        return await self.tags.change(tag, source, add=uids)

    async def take(self, *uids: int, tag: str = TAG, source: str = MANUAL) -> HoldersChanged:
        return await self.tags.change(tag, source, remove=uids)

    async def tell(self, tag: str = TAG) -> int:
        """Sends a message to the tag's holders; returns its id."""
        self._told = getattr(self, "_told", 0) + 1
        return (await self.appender.append(Tag(tag), "0", f"t{self._told}", 0, True, b"{}")).mid

    async def propagate(self, tag: str = TAG) -> None:
        while (await self.tags.propagate_step(tag)).more:
            pass

    async def told(self, uid: int, tag: str = TAG) -> list[int]:
        """Returns the ids of the tag's messages that the user sees."""
        return [each.mid for each in await self.pull(uid) if each.topic == f"business/tag_{tag}"]

    async def roamed(self, uid: int, roaming_us: int = 30 * 86_400_000_000) -> list[Message]:
        """Returns what the user sees when nothing of it is left in Redis, only rows."""
        puller = Puller(self.redis, self.archive, self.outbox, window_us=1, roaming_us=roaming_us, hot=self.hot)
        return (await puller.pull(uid, 0, 1000)).messages

    async def held(self, uid: int) -> list[str]:
        return [holding.tag for holding in await self.tags.of_user(uid)]

    async def propagating(self) -> bool:
        return bool(await self.redis.exists(keys.PROPAGATING))


@pytest.fixture
def limits() -> Limits:
    return Limits(write=500, read=100_000, user=500, groups=1000, made=100, known=False)


@pytest_asyncio.fixture
async def store(redis: RedisClient, redis_server: RedisServer, tmp_path: Path, limits: Limits) -> AsyncIterator[Store]:
    running = Store(redis_server.url, tmp_path, limits)
    await running.start()
    yield running
    await running.stop()
