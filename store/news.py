"""Wakes waiting pulls: one Pub/Sub subscription a process, held only while somebody waits."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from store import keys

_RETRY_SECONDS = 0.5


class News:
    """Events by the name of a timeline (a uid, or a channel), set when the timeline was written to."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def watch(self, names: Iterable[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set after each write to one of the timelines, and when Redis is lost: then look again."""
        event = asyncio.Event()
        names = tuple(names)
        for name in names:
            self._waiting[name].add(event)
        if self._listener is None or self._listener.done():
            self._listening.clear()
            self._listener = asyncio.create_task(self._listen(), name="news")
        try:
            await self._listening.wait()
            yield event
        finally:
            for name in names:
                self._waiting[name].discard(event)
                if not self._waiting[name]:
                    del self._waiting[name]
            if not self._waiting:
                await self.stop()

    def wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            with suppress(asyncio.CancelledError):
                await listener

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(keys.NEWS)
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            # What came before this subscription is found by looking.
                            self._listening.set()
                            self.wake_all()
                            continue
                        for name in message["data"].decode().split(" "):
                            for event in self._waiting.get(name, ()):
                                event.set()
            except (RedisError, OSError):
                # Those who wait ask Redis themselves, and are answered that it is away.
                self._listening.set()
                self.wake_all()
                await asyncio.sleep(_RETRY_SECONDS)
