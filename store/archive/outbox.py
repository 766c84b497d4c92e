"""The outbox as archivers see it: a list of work; what is archived is taken out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from store import keys
from store.errors import StoreEmpty
from store.scripts import script
from store.work import Item, WorkList

GROUP = "archive"
ENTRY_BYTES = 64
"""What an entry counts for in OUTBOX_BYTES on top of its data."""
DONE_AT_ONCE = 500
"""Entries a call of the script takes out: everybody else waits for it, a millisecond or so."""


class Entry(NamedTuple):
    """id: the stream's, `<mid>-0`. data: what the kind's handler decodes."""

    id: bytes
    kind: bytes
    data: bytes


class Outbox:
    """What one archiver reads, and anybody may measure. Its calls raise StoreAway.

    Entries given to it are its own until they are `done`, or it has not asked for them for `idle` seconds.
    """

    def __init__(self, redis: Redis, *, idle: float = 30.0) -> None:
        self._redis = redis
        self._list = WorkList(redis, keys.OUTBOX, GROUP, idle=idle)

    @property
    def worker(self) -> str:
        """What Redis calls this archiver."""
        return self._list.worker

    async def read(self, limit: int) -> list[Entry]:
        """Up to `limit` entries: those this archiver did not finish, else those another one left, else new.

        Waits a second for new ones.
        """
        return [_entry(item) for item in await self._list.read(limit)]

    def read_again(self) -> None:
        """What was read and is not done comes again."""
        self._list.read_again()

    async def done(self, entries: Sequence[Entry]) -> int:
        """Takes entries out of the outbox; how many of them were still there."""
        names = [keys.OUTBOX, keys.OUTBOX_BYTES]
        deleted = 0
        for start in range(0, len(entries), DONE_AT_ONCE):
            arguments: list[Any] = [GROUP]
            for entry in entries[start : start + DONE_AT_ONCE]:
                arguments += (entry.id, len(entry.data) + ENTRY_BYTES)
            deleted += await script("outbox_done").run(self._redis, names, arguments)
        return deleted

    async def length(self) -> int:
        """Entries not archived yet."""
        with self._list.answers():
            length: int = await self._redis.xlen(keys.OUTBOX)
        return length

    async def size(self) -> int:
        """The bytes of these entries, as they are counted against IM_OUTBOX_LIMIT."""
        with self._list.answers():
            size = await self._redis.get(keys.OUTBOX_BYTES)
        return int(size or 0)

    async def oldest_id(self) -> int | None:
        """The id of the first entry: the archive is complete below it.

        None if all is archived: then it is complete up to the clock as it was before this was asked.
        """
        with self._list.answers():
            first: Any = await self._redis.xrange(keys.OUTBOX, count=1)
        return int(first[0][0].split(b"-")[0]) if first else None

    async def holds_below(self, id_: int) -> bool:
        """Whether a message below an id may not be archived yet.

        StoreEmpty: Redis was started empty, and what its outbox held before may come back.
        """
        with self._list.answers():
            known: Any = await self._redis.exists(keys.EPOCH)
        if not known:
            raise StoreEmpty("Redis is empty, or is being rebuilt")
        oldest = await self.oldest_id()
        return oldest is not None and oldest < id_

    async def leave(self) -> None:
        """Ends this archiver; what it has not finished goes to another."""
        await self._list.leave()


def _entry(item: Item) -> Entry:
    id_, fields = item
    return Entry(id_, fields.get(b"k", b""), fields.get(b"d", b""))
