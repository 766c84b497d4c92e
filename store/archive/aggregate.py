"""Makes monthly aggregates: the rows of a month that nobody writes to any more, packed into blocks.

A month is walked twice: by conversation, and by sender for what users sent to each other, which is stored a second
time so that a user's own messages are found without knowing whom they wrote to.
"""

from collections.abc import Awaitable, Callable

from store.addresses import sender_of, sent_conversation
from store.archive.archive import Archive
from store.archive.outbox import Outbox
from store.archive.tables.blocks import Cutter, Progress
from store.archive.tables.months import DAY, Month, months_between
from store.errors import ArchiveAway
from store.record import Message

PAGE_ROWS = 4000
PAGE_BYTES = 8 * 1024 * 1024
FIRST_PAGE = 500
"""Rows read before their size is known."""
MARGIN_US = DAY
"""How long a month has been outside of Redis's window."""

ReadRows = Callable[[Month, str, int, int], Awaitable[list[Message]]]
OnProgress = Callable[[int, int], object]
"""Gets how many messages are stored, of how many."""


class Aggregator:
    """Any number of them, in any processes, may be started: of those at one month, one goes on.

    window_us: how far back Redis reaches. Messages of that time are read from rows when Redis is rebuilt.
    """

    def __init__(self, archive: Archive, outbox: Outbox, *, window_us: int) -> None:
        self._archive = archive
        self._blocks = archive.blocks
        self._outbox = outbox
        self._window_us = window_us

    async def due(self, now: int) -> list[Month]:
        """Returns the months that nothing can be added to, and that are not aggregated yet; oldest first. now:
        microseconds.

        Ids only grow, so when the newest message is beyond a month every later one is, and the month is in the
        archive as soon as the outbox holds nothing of it. Raises ArchiveAway, StoreAway, StoreEmpty.
        """
        highest = min(now, await self._archive.highest_id())
        oldest = await self._archive.oldest_id()
        if not oldest:
            return []
        done = set(await self._blocks.aggregated())
        months = months_between(oldest, highest - self._window_us - MARGIN_US)
        return [month for month in months if month not in done and not await self._outbox.holds_below(month.edge)]

    async def aggregate(self, month: Month, on_progress: OnProgress = lambda done, total: None) -> Progress:
        """Makes the blocks of a month that is due, from where an interrupted run left it, and has it read from them.

        Raises ArchiveAway, also when another process does the same.
        """
        progress = await self._blocks.begin(month)
        total = await self._blocks.count(month)
        on_progress(progress.messages, total)
        for sent in (False, True):
            progress = await self._walk(progress, sent, lambda stored: on_progress(stored, total))
        if progress.messages != total:
            raise ArchiveAway(f"{month.label} has {total} messages and {progress.messages} in blocks; it stays in rows")
        await self._blocks.finish(progress)
        return progress

    async def _walk(self, progress: Progress, sent: bool, on_stored: Callable[[int], object]) -> Progress:
        """Stores the blocks of all conversations, or of all senders, after the last one stored."""
        sender = sender_of(progress.conversation)
        if not sent and sender is not None:
            return progress
        read: ReadRows = self._blocks.sent if sent else self._blocks.received
        name, last_id = progress.conversation, progress.last_id
        if sent:
            name, last_id = ("", 0) if sender is None else (sender, last_id)
        cutter = Cutter()
        limit = FIRST_PAGE
        while True:
            page = await read(progress.month, name, last_id, limit)
            blocks = []
            for message in page:
                if block := cutter.add(sent_conversation(message.sender) if sent else message.topic, message):
                    blocks.append(block)
            ended = len(page) < limit
            if ended and (block := cutter.rest()):
                blocks.append(block)
            if blocks:
                progress = await self._blocks.store(progress, blocks)
                on_stored(progress.messages)
            if ended:
                return progress
            name, last_id = (page[-1].sender if sent else page[-1].topic), page[-1].mid
            size = sum(len(message.payload) for message in page)
            limit = max(1, min(PAGE_ROWS, PAGE_BYTES * len(page) // max(1, size)))
