"""Carries the outbox into the archive: at least once each, in batches, and never stopped by one bad entry."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from store.archive.handlers import Handler
from store.archive.outbox import Outbox, OutboxEntry
from store.cancellation import end
from store.errors import ArchiveAway, ArchiveRefused, StoreError, UnknownVersion
from store.workers import Backoff, Worker

BATCH_ENTRIES = 2000
BATCH_BYTES = 8 * 1024 * 1024
FIRST_BATCH = 500
"""Entries read before their size is known."""
FIRST_PAUSE = 0.1
MAX_PAUSE = 5.0

_log = structlog.get_logger(__name__)


class DeadLetterKeeper(Protocol):
    """Where an entry goes that the archive will never take."""

    async def keep(self, *, source: str, reason: str, message: str, sender: str, body: bytes) -> Any:
        """Keeps an entry. source: `archive`, whose letters are kept without an epoch, too. reason: a code.

        message: for a reader. body: the data. Raises StoreError.
        """


class Archiver:
    """One of any number of archivers on one outbox.

    archived: things stored, such as messages.
    failures: by reason, steps that failed (`archive_away`, `store_away`, `archive_unknown_version`, `internal`)
    and entries set aside (`archive_refused`, `archive_undecodable`).
    """

    def __init__(self, outbox: Outbox, handlers: Mapping[bytes, Handler[Any]], dead_letters: DeadLetterKeeper) -> None:
        self._outbox = outbox
        self._handlers = handlers
        self._dead_letters = dead_letters
        self._limit = FIRST_BATCH
        self.archived = 0
        self.failures: Counter[str] = Counter()

    async def run(self, worker: Worker) -> None:
        """Runs steps until the worker is stopped, and finishes the current one.

        A batch may take longer than a silent archiver is thought to live, so signs of life are shown beside the steps.
        """
        life = Worker(f"{worker.name} life", worker.stop)
        living = asyncio.create_task(life.every(self._outbox.sign_seconds, self._outbox.show_life), name=life.name)
        try:
            await worker.every(0.0, self._counted_step, retry=Backoff(FIRST_PAUSE, MAX_PAUSE), finishes=True)
        finally:
            await end(living)
        try:
            await self._outbox.leave()
        except StoreError as error:
            worker.failed(error)

    async def step(self) -> int:
        """Archives one batch, waiting a second for one; returns how many things left the outbox.  Raises StoreError;
        what was not archived comes again.
        """
        return await self._archive_what(self._outbox.read)

    async def _counted_step(self) -> None:
        """Raises what `step` raises, and counts it."""
        try:
            await self.step()
        except Exception as error:
            self.failures[_reason(error)] += 1
            raise

    async def archive_all(self, progress: Callable[[], Awaitable[object]]) -> None:
        """Archives everything in the outbox, given to another archiver or not; `progress` is called after each batch.

        For an outbox that nothing is added to: it ends when it is empty. Raises StoreError.
        """
        while await self._archive_what(self._outbox.oldest):
            await progress()

    async def archive_up_to(self, id_: int, progress: Callable[[], Awaitable[object]]) -> None:
        """Archives what lies in the outbox up to an id, as `archive_all` does, while others go on to add to it."""
        while (oldest := await self._outbox.oldest_id()) is not None and oldest <= id_:
            await self._archive_what(self._outbox.oldest)
            await progress()

    async def _archive_what(self, read: Callable[[int], Awaitable[list[OutboxEntry]]]) -> int:
        """Archives the batch that `read` gives for a number of entries. Returns how many things left the outbox."""
        try:
            entries = self._known(await read(self._limit))
            batches: dict[bytes, list[OutboxEntry]] = {}
            for entry in entries:
                batches.setdefault(entry.kind, []).append(entry)
            for kind, batch in batches.items():
                await self._archive(kind, batch)
                await self._outbox.done(batch)
        except BaseException:
            self._outbox.read_again()
            self._limit = max(1, self._limit // 2)
            raise
        if entries:
            size = sum(len(entry.data) for entry in entries)
            count = len({entry.id for entry in entries})
            fitting = min(BATCH_BYTES * count // max(1, size), BATCH_ENTRIES * count // len(entries))
            self._limit = max(1, min(fitting, self._limit * 2))
        return len(entries)

    async def lag_seconds(self) -> float:
        """Returns the age of the oldest entry in the outbox; 0 if it is empty. Raises StoreAway."""
        oldest = await self._outbox.oldest_id()
        return 0.0 if oldest is None else max(0.0, time.time() - oldest / 1_000_000)

    def _known(self, entries: list[OutboxEntry]) -> list[OutboxEntry]:
        """Returns the entries up to one of an unknown kind. Raises UnknownVersion if that is the first."""
        for place, entry in enumerate(entries):
            if entry.kind not in self._handlers:
                if place == 0:
                    raise UnknownVersion(
                        f"the outbox entry {entry.id.decode()} is of the kind `{entry.kind.decode(errors='replace')}`,"
                        " which this process does not know: upgrade it"
                    )
                self._outbox.read_again()
                return entries[:place]
        return entries

    async def _archive(self, kind: bytes, batch: Sequence[OutboxEntry]) -> None:
        """Stores entries of one kind, or sets them aside."""
        handler = self._handlers[kind]
        rows = []
        for entry in batch:
            try:
                rows.append((entry, handler.decode(entry.data)))
            except ValueError as error:
                await self._set_aside(entry, "archive_undecodable", "", str(error))
        for start in range(0, len(rows), BATCH_ENTRIES):
            await self._store(handler, rows[start : start + BATCH_ENTRIES])

    async def _store(self, handler: Handler[Any], rows: Sequence[tuple[OutboxEntry, Any]]) -> None:
        """Stores rows; of refused ones each half for itself, until the refused row stands alone."""
        try:
            await handler.store([row for _, row in rows])
        except ArchiveRefused as refusal:
            if len(rows) == 1:
                ((entry, row),) = rows
                await self._set_aside(entry, "archive_refused", handler.sender(row), str(refusal))
                return
            middle = len(rows) // 2
            await self._store(handler, rows[:middle])
            await self._store(handler, rows[middle:])
        else:
            self.archived += len(rows)

    async def _set_aside(self, entry: OutboxEntry, reason: str, sender: str, message: str) -> None:
        await self._dead_letters.keep(source="archive", reason=reason, message=message, sender=sender, body=entry.data)
        self.failures[reason] += 1
        _log.warning("outbox entry set aside", entry=entry.id.decode(), reason=reason, error=message)


def _reason(error: Exception) -> str:
    """Returns what a failed step is counted as."""
    match error:
        case ArchiveAway():
            return "archive_away"
        case UnknownVersion():
            return "archive_unknown_version"
        case StoreError():
            return "store_away"
    return "internal"
