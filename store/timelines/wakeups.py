"""Wakes waiting pulls: one Pub/Sub subscription a process, held only while somebody waits."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.cancellation import end
from store.errors import StoreAway
from store.redis import keys

_RETRY_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_SILENCE_SECONDS = 5.0


class Wakeups:
    """Events by the name of a timeline (a uid, or a channel), set when the timeline was written to."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    @asynccontextmanager
    async def watch(self, names: Iterable[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set after each write to one of the timelines, and when Redis is lost: then look again.

        Raises StoreAway when Redis does not answer in time.
        """
        event = asyncio.Event()
        names = tuple(names)
        for name in names:
            self._waiting[name].add(event)
        if self._listener is None or self._listener.done():
            self._listening.clear()
            self._listener = asyncio.create_task(self._listen(), name="news")
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
            raise StoreAway("news: Redis does not answer") from None

    def wake_all(self) -> None:
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def stop(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await end(listener)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(keys.NEWS)
                    async for message in _messages(pubsub):
                        if message["type"] == "subscribe":
                            # What came before this subscription is found by looking.
                            self._listening.set()
                            self.wake_all()
                        if message["type"] != "message":
                            continue
                        for name in message["data"].decode().split(" "):
                            for event in self._waiting.get(name, ()):
                                event.set()
            except (RedisError, OSError):
                # Those who wait ask Redis themselves, and are answered that it is away.
                self._listening.set()
                self.wake_all()
                await asyncio.sleep(_RETRY_SECONDS)


async def _messages(pubsub: PubSub) -> AsyncIterator[dict[str, Any]]:
    """What comes. A Redis that says nothing is asked whether it is still there. Raises RedisError when it is not."""
    asked = False
    while True:
        message = await pubsub.get_message(timeout=_SILENCE_SECONDS)
        if message is not None:
            asked = False
            yield message
        elif asked:
            raise RedisTimeoutError("no answer to a ping")
        else:
            await pubsub.ping()
            asked = True
