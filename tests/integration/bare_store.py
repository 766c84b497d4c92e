"""A store on an empty Redis with an archive of its own, without a service, for tests of the store itself."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.operations.dead_letters import DeadLetters
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.timelines.append import Appender
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from tests.servers import RedisServer

WINDOW_US = 7 * 86_400_000_000


class BareStore:
    """writing: a client of one connection, for scripts that BatchScript runs. bounds: of all that is written."""

    def __init__(self, redis: RedisClient, server: RedisServer, archive: Archive) -> None:
        self.redis = redis
        self.archive = archive
        self.outbox = Outbox(redis)
        self.archiver = Archiver(self.outbox, handlers(archive), DeadLetters(redis))
        self.recovery = StoreRecovery(redis, archive, self.archiver, window_us=WINDOW_US, sync_sender=True)
        self.bounds: dict[str, Any] = {"window_us": WINDOW_US, "repeat_seconds": 3600, "outbox_limit": 2**30}
        self.appender = Appender(redis, **self.bounds)
        self.writing = connect(server.url, single=True)

    def puller(self, window_us: int = WINDOW_US, roaming_us: int = WINDOW_US, **given: Any) -> Puller:
        return Puller(self.redis, self.archive, self.outbox, window_us=window_us, roaming_us=roaming_us, **given)

    async def archive_all(self) -> None:
        while await self.outbox.length():
            await self.archiver.step()


S = TypeVar("S", bound=BareStore)


@asynccontextmanager
async def running_store(kind: type[S], redis: RedisClient, server: RedisServer, directory: Path) -> AsyncIterator[S]:
    """Yields a store in which users 1 to 9 were seen, so that their inboxes are written."""
    archive = open_archive(f"sqlite:///{directory}/im.db")
    await archive.migrate()
    store = kind(redis, server, archive)
    await store.recovery.ensure()
    await redis.zadd(keys.SEEN, {str(uid): time.time_ns() // 1_000_000 for uid in range(1, 10)})
    store.appender.start()
    yield store
    await store.appender.stop()
    await store.writing.aclose()
    await archive.close()
