"""Wakes waiting pulls: one Pub/Sub subscription for each process and shard, held only while somebody waits."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from store.cancellation import end
from store.errors import StoreAway
from store.redis import keys
from store.redis.client import RedisClient
from store.workers import Backoff, Worker

_FIRST_PAUSE, _MAX_PAUSE = 0.5, 1.0
"""Seconds before a lost subscription is begun again."""
_ANSWER_SECONDS = 2.0


class Wakeups:
    """Events by the name of a timeline (a uid, or a channel), set when the timeline was written to."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._worker = Worker("wakeups")
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def watch(self, names: Iterable[str]) -> AsyncIterator[asyncio.Event]:
        """Yields an event that is set after each write to one of the timelines, and when Redis is lost: then look
        again.

        Raises StoreAway when Redis does not answer in time.
        """
        event = asyncio.Event()
        names = tuple(names)
        for name in names:
            self._waiting[name].add(event)
        if self._listener is None or self._listener.done():
            self._listening.clear()
            listening = self._worker.every(0.0, self._listen, retry=Backoff(_FIRST_PAUSE, _MAX_PAUSE))
            self._listener = asyncio.create_task(listening, name=self._worker.name)
        try:
            await self._heard()
            yield event
        finally:
            for name in names:
                self._waiting[name].discard(event)
                if not self._waiting[name]:
                    del self._waiting[name]
            if not self._waiting:
                await self.stop()

    async def _heard(self) -> None:
        """Returns once what is written from now on is heard of."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._listening.wait()
        except TimeoutError:
            raise StoreAway("wakeups: Redis does not answer") from None

    def wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await end(listener)

    async def _listen(self) -> None:
        try:
            async for names in self._redis.messages(self._redis.key(keys.WAKEUPS)):
                if names is None:
                    # Messages that came before this subscription are found by looking.
                    self._worker.worked()
                    self._listening.set()
                    self.wake_all()
                    continue
                for name in names.decode().split(" "):
                    for event in self._waiting.get(name, ()):
                        event.set()
        except StoreAway:
            # Those who wait ask Redis themselves, and are answered that it is away.
            self._listening.set()
            self.wake_all()
            raise
