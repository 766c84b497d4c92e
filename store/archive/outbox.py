"""The outbox as archivers see it: a list of work; what is archived is taken out."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from store.errors import ArchiveAway, StoreEmpty, UnknownVersion
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.joined import split
from store.redis.replicated import ReplicatedReads
from store.redis.scripts import script
from store.redis.work_list import Item, WorkList

GROUP = "archive"
ENTRY_BYTES = 64
"""The bytes that an entry counts for in OUTBOX_BYTES beside its data."""
_DONE = script("outbox_done", int)
_WAIT_SECONDS = 2.0
_SILENCE_SECONDS = 5.0
"""After this time another archiver takes over what a dead one was given. Pulls that need the archive wait for that."""
_LOOK_SECONDS = 0.05
DONE_AT_ONCE = 500
"""Entries a call of the script takes out: everybody else waits for it, a millisecond or so."""

VERSIONS = frozenset({b"1", b"2"})
"""Versions of the entries' layout that are read here. An entry without a version has the first."""
MESSAGES = b"messages"
"""Kind of an entry that holds messages written together: the lengths of their records, a line break, the records."""


class OutboxEntry(NamedTuple):
    """One thing to archive. Messages that were written together share an entry of the stream.

    id: the stream's, `<mid>-0`. data: what the kind's handler decodes. size: what the stream's entry was counted with.
    """

    id: bytes
    kind: bytes
    data: bytes
    size: int


class Outbox:
    """The outbox as one archiver reads it, and as anybody may measure it. Its calls raise StoreAway.

    Entries given to it are its own until they are `done`, or it was silent for `idle` seconds.
    """

    def __init__(self, redis: RedisClient, *, idle: float = _SILENCE_SECONDS, replicas: int = 0) -> None:
        """replicas: that must have entries before they are read."""
        self._redis = redis
        self._replicated = ReplicatedReads(redis, replicas)
        self._list = WorkList(redis, keys.OUTBOX, GROUP, idle=idle)

    @property
    def worker(self) -> str:
        """Returns what Redis calls this archiver."""
        return self._list.worker

    @property
    def sign_seconds(self) -> float:
        """Returns how often an archiver that is busy shows that it lives."""
        return self._list.sign_seconds

    async def show_life(self) -> None:
        """Keeps what this archiver was given its own for `idle` seconds more."""
        await self._list.show_life()

    async def read(self, limit: int) -> list[OutboxEntry]:
        """Returns what up to `limit` entries of the stream hold: those this archiver did not finish, else those
        another one left, else new.

        Waits a second for new ones. Raises UnknownVersion if the first one has a layout that is not known here; entries
        before such a one are given.
        """
        node = self._replicated.begin()
        items = await self._list.read(limit)
        if items:
            # Or the archive would have what its sender is told to send again, and nobody would know that as a repeat.
            await self._replicated.confirm(node)
        return self._known(items)

    async def oldest(self, limit: int) -> list[OutboxEntry]:
        """Returns what the first `limit` entries of the stream hold, given to an archiver or not.

        Raises as `read` does.
        """
        items: Any = await self._redis.xrange(keys.OUTBOX, count=limit)
        return self._known(items)

    def read_again(self) -> None:
        """Makes entries come again that were read and are not done."""
        self._list.read_again()

    async def done(self, entries: Sequence[OutboxEntry]) -> int:
        """Removes entries from the outbox, with all their content; returns how many of the stream's still existed."""
        sizes = [each for entry in {entry.id: entry for entry in entries}.values() for each in (entry.id, entry.size)]
        deleted = 0
        for start in range(0, len(sizes), DONE_AT_ONCE * 2):
            taken = sizes[start : start + DONE_AT_ONCE * 2]
            deleted += await _DONE.run(self._redis, more_arguments=taken, group=GROUP)
        return deleted

    async def length(self) -> int:
        """Counts the entries that are not archived yet."""
        length: int = await self._redis.xlen(keys.OUTBOX)
        return length

    async def size(self) -> int:
        """Returns the bytes of these entries, as they are counted against IM_OUTBOX_LIMIT."""
        size = await self._redis.get(keys.OUTBOX_BYTES)
        return int(size or 0)

    async def oldest_id(self) -> int | None:
        """Returns the id of the first entry: the archive is complete below it.

        None if all is archived: then it is complete up to the clock as it was before this was asked.
        """
        first: Any = await self._redis.xrange(keys.OUTBOX, count=1)
        return _id(first[0]) if first else None

    async def caught_up_with_now(self) -> None:
        """Returns when the archive has everything that is in the outbox now. Raises ArchiveAway."""
        last: Any = await self._redis.xrevrange(keys.OUTBOX, count=1)
        if last:
            await self.caught_up(_id(last[0]) + 1)

    async def caught_up(self, id_: int, oldest: int | None = None, epoch: str = "") -> None:
        """Returns when the archive has everything below an id: nothing of it is left in the outbox.

        oldest: the first id in it as it was just now, 0 if it was empty; None if that is not known. epoch: the one that
        it has to be of, "" for any. Raises ArchiveAway, and StoreEmpty as `holds_below` does.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        holds = await self.holds_below(id_, epoch) if oldest is None else 0 < oldest < id_
        while holds:
            if time.monotonic() > deadline:
                raise ArchiveAway("the archive has not caught up with what is asked for")
            await asyncio.sleep(_LOOK_SECONDS)
            holds = await self.holds_below(id_, epoch)

    async def holds_below(self, id_: int, epoch: str = "") -> bool:
        """Returns whether a message below an id may not be archived yet.

        StoreEmpty: Redis was started empty, or has another epoch: what its outbox held before may still come back by an
        archiver that has it in its hands.
        """
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.xrange(keys.OUTBOX, count=1)
        pipeline.get(keys.EPOCH)
        first, known = await pipeline.execute()
        if known is None or (epoch and known.decode() != epoch):
            raise StoreEmpty("Redis is empty, or is being rebuilt")
        return bool(first) and _id(first[0]) < id_

    def _known(self, items: Sequence[Item]) -> list[OutboxEntry]:
        """Returns what the items hold, up to one of an unknown version. Raises UnknownVersion if that is the first."""
        found: list[OutboxEntry] = []
        for item in items:
            version = item[1].get(b"v", b"1")
            if version in VERSIONS:
                found += _entries(item)
            elif found:
                self.read_again()
                return found
            else:
                known = ", ".join(sorted(each.decode() for each in VERSIONS))
                raise UnknownVersion(
                    f"the outbox entry {item[0].decode()} has version {version.decode(errors='replace')}; this process"
                    f" reads version {known}: upgrade it"
                )
        return found

    async def leave(self) -> None:
        """Ends this archiver; what it has not finished goes to another."""
        await self._replicated.aclose()
        await self._list.leave()


def _id(item: Item) -> int:
    """Returns the id of the first message in an entry of the stream."""
    return int(item[0].partition(b"-")[0])


def _entries(item: Item) -> list[OutboxEntry]:
    id_, fields = item
    kind, data = fields.get(b"k", b""), fields.get(b"d", b"")
    size = len(data) + ENTRY_BYTES
    if kind == MESSAGES and (records := _records(data)) is not None:
        return [OutboxEntry(id_, b"message", record, size) for record in records]
    return [OutboxEntry(id_, kind, data, size)]


def _records(data: bytes) -> list[bytes] | None:
    """None if the lengths do not fit: the entry is set aside whole."""
    try:
        return split(data)
    except ValueError:
        return None
