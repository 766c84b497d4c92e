"""Durable lists of work: a Redis stream that workers read as one consumer group."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from store.errors import StoreAway
from store.scripts import script

BLOCK_MILLISECONDS = 1000
_SILENCE = 86_400_000
"""Milliseconds after which a worker that left nothing behind is forgotten."""

_NO_GROUP = ("NOGROUP", "UNBLOCKED")
"""How Redis says that the group is gone: at a command, and at one that was waiting."""

Item = tuple[bytes, dict[bytes, bytes]]
"""An entry of the stream: its id and fields."""


class WorkList:
    """What one worker reads. Items given to it are its own until they leave the stream, or it was silent for `idle` s.

    group: the consumer group, made where there is none.
    """

    def __init__(self, redis: Redis, stream: bytes, group: str, *, idle: float) -> None:
        self._redis = redis
        self._stream = stream
        self._group = group
        self._idle = idle
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._again = False
        self._look_at = 0.0
        self._cursor = b"0-0"

    async def read(self, limit: int) -> list[Item]:
        """Up to `limit` items: those this worker did not finish, else those another one left, else new.

        Waits a second for new ones. Raises StoreAway.
        """
        with self.answers():
            try:
                return await self._next(limit)
            except redis_errors.ResponseError as error:
                if not str(error).startswith(_NO_GROUP):
                    raise
            await self._create_group()
            return await self._next(limit)

    def read_again(self) -> None:
        """What was read and did not leave the stream comes again."""
        self._again = True

    async def leave(self) -> None:
        """Ends this worker; one that has not finished stays, to be taken over. Raises StoreAway."""
        await script("work_leave").run(self._redis, [self._stream], [self._group, self.worker, _SILENCE])

    @contextmanager
    def answers(self) -> Iterator[None]:
        """Turns what Redis raises into StoreAway."""
        try:
            yield
        except (redis_errors.RedisError, OSError) as error:
            raise StoreAway(f"{self._group}: {error}") from error

    async def _next(self, limit: int) -> list[Item]:
        if self._again:
            if unfinished := await self._read_group("0", limit, None):
                return unfinished
            self._again = False
        if time.monotonic() >= self._look_at and (abandoned := await self._claim(limit)):
            return abandoned
        return await self._read_group(">", limit, BLOCK_MILLISECONDS)

    async def _create_group(self) -> None:
        """First start, or Redis was wiped."""
        try:
            await self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis_errors.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _read_group(self, start: str, limit: int, block: int | None) -> list[Item]:
        streams: Any = {self._stream: start}
        reply: Any = await self._redis.xreadgroup(self._group, self.worker, streams, count=limit, block=block)
        return await self._still_there(reply[0][1]) if reply else []

    async def _claim(self, limit: int) -> list[Item]:
        """Items whose worker has been silent too long. Goes through all that is pending, then rests."""
        idle = int(self._idle * 1000)
        reply: Any = await self._redis.xautoclaim(
            self._stream, self._group, self.worker, idle, start_id=self._cursor, count=limit
        )
        self._cursor = reply[0]
        if self._cursor == b"0-0":
            self._look_at = time.monotonic() + self._idle / 2
        return await self._still_there(reply[1])

    async def _still_there(self, items: list[Item]) -> list[Item]:
        """Without those that another worker took out of the stream meanwhile: they are ended here."""
        gone = [id_ for id_, fields in items if not fields]
        if gone:
            await self._redis.xack(self._stream, self._group, *gone)
        return [item for item in items if item[1]]
