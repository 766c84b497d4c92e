"""Blocks in SQLite."""

from collections.abc import Sequence
from typing import Any

import aiosqlite

from store.addresses import INBOX_CONVERSATIONS, sent_conversation
from store.archive.sqlite.connection import SQLiteConnection
from store.archive.tables.blocks import Block, Progress, with_replaced
from store.archive.tables.months import Month
from store.archive.tables.roaming import Head, Span
from store.archive.tables.rows import message_of
from store.archive.tables.sql import queries
from store.archive.tables.visible_range import VisibleRange
from store.errors import ArchiveAway
from store.record import Message

_QUERIES = queries("sqlite")
_INBOXES = [INBOX_CONVERSATIONS] * 2

DELETED_AT_ONCE = 500


def message(row: Sequence[Any]) -> Message:
    """Returns a row of `message`, its columns in the table's order."""
    return message_of(*row)


class SQLiteBlocks:
    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    async def aggregated(self) -> list[Month]:
        return [Month(*row) for row in await self._connection.fetch(_QUERIES["aggregated_months"], [])]

    async def aggregated_for(self, seconds: int) -> list[Month]:
        return [
            Month(*row) for row in await self._connection.fetch(_QUERIES["months_aggregated_for"], [seconds * 1000])
        ]

    async def heads(self, ranges: Sequence[VisibleRange], limit: int) -> list[Head]:
        pages = " UNION ALL ".join(["SELECT * FROM (" + _QUERIES["block_heads"] + ")"] * len(ranges))  # noqa: S608
        arguments: list[Any] = []
        for conversation, intervals in ranges:
            arguments += (conversation, intervals[0][0], intervals[-1][1], limit)
        return [
            Head(*row) for row in await self._connection.fetch(_QUERIES["merged_heads"].format(pages=pages), arguments)
        ]

    async def data(self, spans: Sequence[Span]) -> list[bytes]:
        union = " UNION ALL ".join(_QUERIES["block_data"] for _ in spans)
        return [data for (data,) in await self._connection.fetch(union, [value for span in spans for value in span])]

    async def begin(self, month: Month) -> Progress:
        async with self._connection.transaction() as connection:
            await connection.execute(_QUERIES["begin_month"], month)
            ((conversation, *numbers),) = await connection.execute_fetchall(_QUERIES["month_progress"], (month.start,))
        return Progress(month, conversation, *numbers)

    async def count(self, month: Month) -> int:
        ((count,),) = await self._connection.fetch(_QUERIES["count_month"], [*_INBOXES, *month])
        return int(count)

    async def received(self, month: Month, conversation: str, last_id: int, limit: int) -> list[Message]:
        return await self._page(_QUERIES["received_rows"], [*month, conversation, last_id, limit])

    async def sent(self, month: Month, sender: str, last_id: int, limit: int) -> list[Message]:
        return await self._page(_QUERIES["sent_rows"], [*month, sender, last_id, *_INBOXES, limit])

    async def store(self, progress: Progress, blocks: Sequence[Block]) -> Progress:
        after = progress.after(blocks)
        added = (now - then for now, then in zip(after[3:6], progress[3:6], strict=True))
        async with self._connection.transaction() as connection:
            place = [after.conversation, after.last_id, *added, *self._place(progress)]
            await self._only_one(connection, _QUERIES["advance_month"], place)
            await connection.executemany(_QUERIES["insert_block"], blocks)
        return after

    async def finish(self, progress: Progress) -> None:
        async with self._connection.transaction() as connection:
            await self._only_one(connection, _QUERIES["finish_month"], self._place(progress))

    async def replace(self, connection: aiosqlite.Connection, messages: Sequence[Message]) -> None:
        """Puts edited and recalled messages into the blocks that have them, in the connection's transaction."""
        mids = [each.mid for each in messages]
        months = await connection.execute_fetchall(_QUERIES["months_of"], (min(mids), max(mids)))
        for month in [Month(*row) for row in months]:
            for changed in (each for each in messages if month.start <= each.mid < month.edge):
                for name in (changed.topic, sent_conversation(changed.sender)):
                    found = await connection.execute_fetchall(_QUERIES["block_of"], (name, changed.mid, changed.mid))
                    for last_id, data in found:
                        block = (with_replaced(data, changed), name, last_id)
                        await connection.execute(_QUERIES["change_block"], block)
                await connection.execute(_QUERIES["note_replaced"], (changed.replaced, month.start))

    async def drop(self, before: int) -> int:
        return await self._connection.delete(_QUERIES["delete_blocks"], before, DELETED_AT_ONCE)

    async def _page(self, query: str, arguments: Sequence[Any]) -> list[Message]:
        return [message(row) for row in await self._connection.fetch(query, arguments)]

    @staticmethod
    def _place(progress: Progress) -> tuple[int, str, int, int]:
        return progress.month.start, progress.conversation, progress.last_id, progress.replaced

    @staticmethod
    async def _only_one(connection: aiosqlite.Connection, query: str, arguments: Sequence[Any]) -> None:
        if (await connection.execute(query, arguments)).rowcount != 1:
            raise ArchiveAway("another process is aggregating, or a message of the month was recalled or edited")
