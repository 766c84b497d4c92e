"""Durable lists of work: a Redis stream that workers read as one consumer group."""

import os
import secrets
import socket
import time
from typing import Any

from store.errors import RedisRefused
from store.redis.client import RedisClient
from store.redis.scripts import script

BLOCK_MILLISECONDS = 1000
_SILENCE = 86_400_000
"""Milliseconds after which a worker that left nothing behind is forgotten."""

_BEGIN = script("work_begin", bytes)
_CLAIM = script("work_claim", list[Any])
_LEAVE = script("work_leave", int)

_NO_GROUP = ("NOGROUP", "UNBLOCKED")
"""How Redis says that the group is gone: at a command, and at one that was waiting."""

Item = tuple[bytes, dict[bytes, bytes]]
"""An entry of the stream: its id and fields."""


class WorkList:
    """Hands items to a worker. They are its own until they leave the stream, or it was silent for `idle` s.

    Reading is a sign of life; a worker that may be busy for longer shows others. group: the consumer group, made where
    there is none.
    """

    def __init__(self, redis: RedisClient, stream: bytes, group: str, *, idle: float) -> None:
        self._redis = redis
        self._stream = stream
        self._group = group
        self._idle = idle
        self.sign_seconds = idle / 4
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._again = False
        self._look_at = 0.0
        self._seen_until = 0.0

    async def read(self, limit: int, *, wait: bool = True) -> list[Item]:
        """Returns up to `limit` items: those this worker did not finish, else those another one left, else new.

        Waits a second for new ones, if it is to. Raises StoreAway.
        """
        try:
            return await self._next(limit, wait)
        except RedisRefused as error:
            if not str(error).startswith(_NO_GROUP):
                raise
        # First start, or Redis was wiped.
        await _BEGIN.run(self._redis, stream_key=self._stream, group=self._group)
        return await self._next(limit, wait)

    async def unfinished(self, after: bytes, limit: int) -> tuple[list[Item], bytes | None]:
        """Returns up to `limit` items that this worker was given and has not finished, above an id; and the id to go
        on from.

        None: there are no more. Raises StoreAway.
        """
        streams: Any = {self._stream: after}
        try:
            reply: Any = await self._redis.xreadgroup(self._group, self.worker, streams, count=limit)
        except RedisRefused as error:
            if not str(error).startswith(_NO_GROUP):
                raise
            reply = None
        items: list[Item] = reply[0][1] if reply else []
        return await self._still_there(items), items[-1][0] if len(items) == limit else None

    async def show_life(self) -> None:
        """Shows that this worker is alive, which is due every `sign_seconds`. Raises StoreAway."""
        # Before 7.2, without new items, Redis counts only reading items that were given before.
        await self.unfinished(b"0-0", 1)
        self._seen_until = time.monotonic() + self.sign_seconds

    def read_again(self) -> None:
        """Makes items come again that were read and did not leave the stream."""
        self._again = True

    async def leave(self) -> None:
        """Ends this worker; one that has not finished stays, to be taken over. Raises StoreAway."""
        await _LEAVE.run(self._redis, stream_key=self._stream, group=self._group, leaving=self.worker, silence=_SILENCE)

    async def _next(self, limit: int, wait: bool) -> list[Item]:
        if time.monotonic() >= self._seen_until:
            await self.show_life()
        if self._again:
            if unfinished := await self._read_group("0", limit, None):
                return unfinished
            self._again = False
        if time.monotonic() >= self._look_at and (abandoned := await self._claim(limit)):
            return abandoned
        return await self._read_group(">", limit, BLOCK_MILLISECONDS if wait else None)

    async def _read_group(self, start: str, limit: int, block: int | None) -> list[Item]:
        streams: Any = {self._stream: start}
        reply: Any = await self._redis.xreadgroup(self._group, self.worker, streams, count=limit, block=block)
        return await self._still_there(reply[0][1]) if reply else []

    async def _claim(self, limit: int) -> list[Item]:
        """Takes over items whose worker has been silent too long; pauses if there are no more."""
        reply = await _CLAIM.run(
            self._redis,
            stream_key=self._stream,
            group=self._group,
            taking=self.worker,
            silence=int(self._idle * 1000),
            limit=limit,
        )
        if len(reply) < limit:
            self._look_at = time.monotonic() + self._idle / 2
        return await self._still_there([(id_, _fields(fields)) for id_, fields in filter(None, reply)])

    async def _still_there(self, items: list[Item]) -> list[Item]:
        """Returns the items without those that another worker removed from the stream meanwhile: they are ended
        here."""
        gone = [id_ for id_, fields in items if not fields]
        if gone:
            await self._redis.xack(self._stream, self._group, *gone)
        return [item for item in items if item[1]]


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
