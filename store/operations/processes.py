"""Which processes work on the store: each says so every two seconds, for commands that must not run beside them."""

import asyncio
import os
import secrets
import socket

from store.errors import StoreError
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.workers import Worker

SILENCE_SECONDS = 10
"""One that has not said so for this long was killed."""
_SECONDS = 2.0
_ASKED_SECONDS = 0.2

_ALIVE = script("process_alive", list[bytes])


class Processes:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        """redis: of the home."""
        self._redis = redis
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    async def run(self, worker: Worker) -> None:
        """Says that this process works on the store, until the worker is stopped."""
        await worker.every(_SECONDS, self.announce)
        try:
            await self.leave()
        except StoreError as error:
            worker.failed(error)

    async def announce(self) -> None:
        await self._alive(self._name)

    async def leave(self) -> None:
        await self._redis.zrem(keys.PROCESSES, self._name)

    async def running(self) -> list[str]:
        """Returns host and process id of each, as soon as one of them says so again.

        Those that do not were killed, or could not say that they leave: nobody is left after SILENCE_SECONDS.
        """
        earlier = now = await self._said()
        while now:
            if any(at != earlier.get(name) for name, at in now.items()):
                return [name.decode().rpartition(":")[0] for name in now]
            await asyncio.sleep(_ASKED_SECONDS)
            now = await self._said()
        return []

    async def _said(self) -> dict[bytes, bytes]:
        """Returns when each has last said that it works."""
        said = await self._alive("")
        return dict(zip(said[::2], said[1::2], strict=True))

    async def _alive(self, name: str) -> list[bytes]:
        return await _ALIVE.run(self._redis, name=name, silence=SILENCE_SECONDS * 1000)
