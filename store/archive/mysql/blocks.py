"""Blocks in MySQL 8 or MariaDB 10.11."""

from collections.abc import Sequence
from typing import Any

from store.addresses import INBOX_CONVERSATIONS, sent_conversation
from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.partitions import drop_months, make_months
from store.archive.mysql.rows import write_rows
from store.archive.tables.blocks import Block, Progress, with_replaced
from store.archive.tables.months import Month, months_between
from store.archive.tables.roaming import Head, Span
from store.archive.tables.rows import message_of
from store.archive.tables.sql import queries
from store.archive.tables.visible_range import VisibleRange
from store.errors import ArchiveAway
from store.record import Message

_QUERIES = queries("mysql")
_INBOXES = [INBOX_CONVERSATIONS.encode()] * 2

AGGREGATE_SECONDS = 600
"""For one step of an aggregation: counting a month's rows is the longest."""


def message(row: Sequence[Any]) -> Message:
    """Returns a row of `message`, its columns in the table's order."""
    topic, mid, sender, client_id, *others = row
    return message_of(topic.decode(), mid, sender.decode(), client_id.decode(), *others)


class MySQLBlocks:
    def __init__(self, connections: MySQLConnections) -> None:
        self._connections = connections

    async def aggregated(self) -> list[Month]:
        return await self._months(_QUERIES["aggregated_months"], [])

    async def aggregated_for(self, seconds: int) -> list[Month]:
        return await self._months(_QUERIES["months_aggregated_for"], [seconds * 1000])

    async def heads(self, ranges: Sequence[VisibleRange], limit: int) -> list[Head]:
        pages = " UNION ALL ".join(["(" + _QUERIES["block_heads"] + ")"] * len(ranges))
        arguments: list[Any] = []
        for conversation, intervals in ranges:
            arguments += (conversation.encode(), intervals[0][0], intervals[-1][1], limit)
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["merged_heads"].format(pages=pages), arguments)
            return [Head(name.decode(), *ids) for name, *ids in await cursor.fetchall()]

    async def data(self, spans: Sequence[Span]) -> list[bytes]:
        union = " UNION ALL ".join(_QUERIES["block_data"] for _ in spans)
        arguments: list[Any] = []
        for conversation, after, last_id in spans:
            arguments += (conversation.encode(), after, last_id)
        async with self._connections.cursor() as cursor:
            await cursor.execute(union, arguments)
            return [data for (data,) in await cursor.fetchall()]

    async def begin(self, month: Month) -> Progress:
        await make_months(
            self._connections,
            "block",
            lambda last_edge: months_between(month.start if last_edge is None else last_edge, month.edge),
        )
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["begin_month"], month)
            await cursor.execute(_QUERIES["month_progress"], (month.start,))
            conversation, *numbers = await cursor.fetchone()
        return Progress(month, conversation.decode(), *numbers)

    async def count(self, month: Month) -> int:
        async with self._connections.cursor(AGGREGATE_SECONDS) as cursor:
            await cursor.execute(_QUERIES["count_month"], [*_INBOXES, *month])
            (count,) = await cursor.fetchone()
        return int(count)

    async def received(self, month: Month, conversation: str, last_id: int, limit: int) -> list[Message]:
        name = conversation.encode()
        return await self._page(_QUERIES["received_rows"], [*month, name, name, last_id, limit])

    async def sent(self, month: Month, sender: str, last_id: int, limit: int) -> list[Message]:
        name = sender.encode()
        return await self._page(_QUERIES["sent_rows"], [*month, name, name, last_id, *_INBOXES, limit])

    async def store(self, progress: Progress, blocks: Sequence[Block]) -> Progress:
        after = progress.after(blocks)
        moved = (after.conversation.encode(), after.last_id)
        added = (now - then for now, then in zip(after[3:6], progress[3:6], strict=True))
        rows = [(each.conversation.encode(), *each[1:]) for each in blocks]
        async with self._connections.cursor(AGGREGATE_SECONDS) as cursor:
            await cursor.connection.begin()
            await self._only_one(cursor, _QUERIES["advance_month"], [*moved, *added, *self._place(progress)])
            await write_rows(cursor, _QUERIES["insert_block"], rows)
            await cursor.connection.commit()
        return after

    async def finish(self, progress: Progress) -> None:
        async with self._connections.cursor() as cursor:
            await self._only_one(cursor, _QUERIES["finish_month"], self._place(progress))

    async def replace(self, cursor: Any, messages: Sequence[Message]) -> None:
        """Puts edited and recalled messages into the blocks that have them, in the cursor's transaction."""
        mids = [each.mid for each in messages]
        await cursor.execute(_QUERIES["months_of"], (min(mids), max(mids)))
        for month in [Month(*row) for row in await cursor.fetchall()]:
            for changed in (each for each in messages if month.start <= each.mid < month.edge):
                for name in (changed.topic.encode(), sent_conversation(changed.sender).encode()):
                    await cursor.execute(_QUERIES["block_of"], (name, changed.mid, changed.mid))
                    for last_id, data in await cursor.fetchall():
                        await cursor.execute(_QUERIES["change_block"], (with_replaced(data, changed), name, last_id))
                await cursor.execute(_QUERIES["note_replaced"], (changed.replaced, month.start))

    async def drop(self, before: int) -> int:
        return await drop_months(self._connections, "block", before)

    async def _months(self, query: str, arguments: Sequence[Any]) -> list[Month]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(query, arguments)
            return [Month(*row) for row in await cursor.fetchall()]

    async def _page(self, query: str, arguments: Sequence[Any]) -> list[Message]:
        async with self._connections.cursor(AGGREGATE_SECONDS) as cursor:
            await cursor.execute(query, arguments)
            return [message(row) for row in await cursor.fetchall()]

    @staticmethod
    def _place(progress: Progress) -> tuple[int, bytes, int, int]:
        return progress.month.start, progress.conversation.encode(), progress.last_id, progress.replaced

    @staticmethod
    async def _only_one(cursor: Any, query: str, arguments: Sequence[Any]) -> None:
        if await cursor.execute(query, arguments) != 1:
            raise ArchiveAway("another process is aggregating, or a message of the month was recalled or edited")
