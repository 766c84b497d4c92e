"""A store with tags, on a real Redis and a real archive."""

import time
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
from store.tags.holdings import MANUAL, Holdings
from store.tags.replacement import Replacement
from store.tags.tags import HoldersChanged, Tags
from store.timelines.pull import Puller
from tests.integration.conftest import Place
from tests.integration.groups.conftest import WINDOW_US
from tests.integration.groups.conftest import Store as GroupStore

TAG = "female"


def user(number: int) -> int:
    """Returns the uid of a user who lies in any of several shards, not with those of the next numbers."""
    return number * keys.USERS_PER_BITMAP


class Store(GroupStore):
    """What a service has of the store, with tags. Users are named by numbers (`user`)."""

    def __init__(self, url: str, directory: Path, limits: Limits, count: int = 1, **settings: Any) -> None:
        super().__init__(url, directory, limits, count, **settings)
        self.tags = self.new_tags()
        self.holdings = Holdings(self.shards)

    def new_tags(self, outbox_limit: int = 2**30) -> Tags:
        return Tags(
            *(self.shards, self.write_connection),
            window_us=WINDOW_US,
            repeat_seconds=3600,
            outbox_limit=outbox_limit,
            links=self.links,
        )

    async def all_seen(self) -> None:
        await super().all_seen()
        for uid in map(user, range(1, 20)):
            redis = self.shards.of(uid)
            await redis.zadd(redis.key(keys.SEEN), {str(uid): time.time_ns() // 1_000_000})

    async def give(self, *numbers: int, tag: str = TAG, source: str = MANUAL) -> HoldersChanged:
        return await self.tags.change(tag, source, add=[*map(user, numbers)])

    async def take(self, *numbers: int, tag: str = TAG, source: str = MANUAL) -> HoldersChanged:
        return await self.tags.change(tag, source, remove=[*map(user, numbers)])

    async def follow(self, number: int, command_id: str, tag: str = TAG) -> HoldersChanged:
        return await self.tags.follow(tag, user(number), command_id=command_id)

    async def unfollow(self, number: int, command_id: str, tag: str = TAG) -> HoldersChanged:
        return await self.tags.unfollow(tag, user(number), command_id=command_id)

    async def holds(self, number: int, tag: str = TAG) -> bool:
        return await self.holdings.holds(tag, user(number))

    async def load(self, *numbers: int, tag: str = TAG) -> int:
        """Makes them all the users who hold the tag by their profile; returns the id of the change."""
        async with Replacement(self.shards, self.tags, tag) as new:
            await new.add(map(user, numbers))
            return await new.take_effect()

    async def tell(self, tag: str = TAG) -> int:
        """Sends a message to the tag's holders; returns its id."""
        self._told = getattr(self, "_told", 0) + 1
        return (await self.appender.append(Tag(tag), "0", f"t{self._told}", 0, True, b"{}")).mid

    async def propagate(self, tag: str = TAG) -> None:
        while (await self.tags.propagate_step(tag)).more:
            pass

    async def told(self, number: int, tag: str = TAG) -> list[int]:
        """Returns the ids of the tag's messages that the user sees."""
        return [each.mid for each in await self.pull(user(number)) if each.topic == f"business/tag_{tag}"]

    async def roamed(self, number: int, roaming_us: int = 30 * 86_400_000_000) -> list[Message]:
        """Returns what the user sees when nothing of it is left in Redis, only rows."""
        puller = Puller(self.shards, self.archive, self.outbox, window_us=1, roaming_us=roaming_us)
        return (await puller.pull(user(number), 0, 1000)).messages

    async def held(self, number: int) -> list[str]:
        return [holding.tag for holding in await self.holdings.of_user(user(number))]

    async def left_of(self, pattern: bytes) -> list[tuple[RedisClient, bytes]]:
        """Returns the keys of this pattern in all shards, each with the client of its shard."""
        return [
            (redis, key)
            for redis in self.shards
            async for key in redis.scan_iter(match=redis.key(keys.PREFIX) + pattern, count=1000)
        ]

    async def epochs(self) -> list[Any]:
        return [await redis.get(redis.key(keys.EPOCH)) for redis in self.shards]

    async def propagating(self) -> bool:
        return bool(await self.redis.exists(keys.PROPAGATING))


@pytest.fixture
def limits() -> Limits:
    return Limits(write=500, read=100_000, user=500, groups=1000, made=100, known=False)


@pytest_asyncio.fixture
async def store(place: Place, tmp_path: Path, limits: Limits) -> AsyncIterator[Store]:
    running = Store(place.url, tmp_path, limits, place.shards)
    await running.start()
    yield running
    await running.stop()
