"""The outbox as archivers see it: a stream read by one consumer group; what is archived is taken out."""

import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from store import keys
from store.errors import StoreAway, StoreEmpty
from store.scripts import script

GROUP = "archive"
ENTRY_BYTES = 64
"""What an entry counts for in OUTBOX_BYTES on top of its data."""
DONE_AT_ONCE = 500
"""Entries a call of the script takes out: everybody else waits for it, a millisecond or so."""
BLOCK_MILLISECONDS = 1000
_SILENCE = 86_400_000
"""Milliseconds after which an archiver that left nothing behind is forgotten."""

_NO_GROUP = ("NOGROUP", "UNBLOCKED")
"""How Redis says that the group is gone: at a command, and at one that was waiting."""


class Entry(NamedTuple):
    """id: the stream's, `<mid>-0`. data: what the kind's handler decodes."""

    id: bytes
    kind: bytes
    data: bytes


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except (redis_errors.RedisError, OSError) as error:
        raise StoreAway(f"outbox: {error}") from error


class Outbox:
    """What one archiver reads, and anybody may measure.

    Entries given to it are its own until they are `done`, or it has not asked for them for `idle` seconds.
    """

    def __init__(self, redis: Redis, *, idle: float = 30.0) -> None:
        self._redis = redis
        self._idle = idle
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._again = False
        self._look_at = 0.0
        self._cursor = b"0-0"

    async def read(self, limit: int) -> list[Entry]:
        """Up to `limit` entries: those this archiver did not finish, else those another one left, else new.

        Waits a second for new ones. Raises StoreAway.
        """
        with _answers():
            try:
                return await self._next(limit)
            except redis_errors.ResponseError as error:
                if not str(error).startswith(_NO_GROUP):
                    raise
            await self._create_group()
            return await self._next(limit)

    def read_again(self) -> None:
        """What was read and is not done comes again."""
        self._again = True

    async def done(self, entries: Sequence[Entry]) -> int:
        """Takes entries out of the outbox; how many of them were still there. Raises StoreAway."""
        names = [keys.OUTBOX, keys.OUTBOX_BYTES]
        deleted = 0
        for start in range(0, len(entries), DONE_AT_ONCE):
            arguments: list[Any] = [GROUP]
            for entry in entries[start : start + DONE_AT_ONCE]:
                arguments += (entry.id, len(entry.data) + ENTRY_BYTES)
            deleted += await script("outbox_done").run(self._redis, names, arguments)
        return deleted

    async def length(self) -> int:
        """Entries not archived yet. Raises StoreAway."""
        with _answers():
            length: int = await self._redis.xlen(keys.OUTBOX)
        return length

    async def size(self) -> int:
        """The bytes of these entries, as they are counted against IM_OUTBOX_LIMIT. Raises StoreAway."""
        with _answers():
            size = await self._redis.get(keys.OUTBOX_BYTES)
        return int(size or 0)

    async def oldest_id(self) -> int | None:
        """The id of the first entry: the archive is complete below it. Raises StoreAway.

        None if all is archived: then it is complete up to the clock as it was before this was asked.
        """
        with _answers():
            first: Any = await self._redis.xrange(keys.OUTBOX, count=1)
        return int(first[0][0].split(b"-")[0]) if first else None

    async def holds_below(self, id_: int) -> bool:
        """Whether a message below an id may not be archived yet. Raises StoreAway.

        StoreEmpty: Redis was started empty, and what its outbox held before may come back.
        """
        with _answers():
            known: Any = await self._redis.exists(keys.EPOCH)
        if not known:
            raise StoreEmpty("Redis is empty, or is being rebuilt")
        oldest = await self.oldest_id()
        return oldest is not None and oldest < id_

    async def leave(self) -> None:
        """Ends this consumer; one that has not finished stays, to be taken over. Raises StoreAway."""
        await script("outbox_leave").run(self._redis, [keys.OUTBOX], [GROUP, self.consumer, _SILENCE])

    async def _next(self, limit: int) -> list[Entry]:
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
            await self._redis.xgroup_create(keys.OUTBOX, GROUP, id="0", mkstream=True)
        except redis_errors.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _read_group(self, start: str, limit: int, block: int | None) -> list[Entry]:
        streams: Any = {keys.OUTBOX: start}
        reply: Any = await self._redis.xreadgroup(GROUP, self.consumer, streams, count=limit, block=block)
        return await self._entries(reply[0][1]) if reply else []

    async def _claim(self, limit: int) -> list[Entry]:
        """Entries whose archiver has been silent too long. Goes through all that is pending, then rests."""
        idle = int(self._idle * 1000)
        reply: Any = await self._redis.xautoclaim(
            keys.OUTBOX, GROUP, self.consumer, idle, start_id=self._cursor, count=limit
        )
        self._cursor = reply[0]
        if self._cursor == b"0-0":
            self._look_at = time.monotonic() + self._idle / 2
        return await self._entries(reply[1])

    async def _entries(self, reply: list[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
        """The entries of a reply. One deleted since it was given out has no fields; it is acknowledged."""
        gone = [entry_id for entry_id, fields in reply if not fields]
        if gone:
            await self._redis.xack(keys.OUTBOX, GROUP, *gone)
        return [Entry(entry_id, fields.get(b"k", b""), fields.get(b"d", b"")) for entry_id, fields in reply if fields]
