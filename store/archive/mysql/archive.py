"""The archive in MySQL 8 or MariaDB 10.11."""

from collections.abc import Sequence
from typing import Any

from store.archive.mysql.blocks import MySQLBlocks, message
from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.groups import MySQLGroups
from store.archive.mysql.health import server_state
from store.archive.mysql.moderation import MySQLModeration
from store.archive.mysql.operators import MySQLOperators
from store.archive.mysql.partitions import drop_months, make_months
from store.archive.mysql.rows import write_rows
from store.archive.mysql.states import MySQLStates
from store.archive.mysql.tags import MySQLTags
from store.archive.tables.changes import Change
from store.archive.tables.months import months_to_make
from store.archive.tables.roaming import pages_of_rows, read
from store.archive.tables.rows import columns
from store.archive.tables.server_state import ServerState
from store.archive.tables.sql import migrate, pending, queries
from store.archive.tables.visible_range import VisibleRange
from store.record import Message

_QUERIES = queries("mysql")


def _row(message: Message) -> tuple[bytes, int, bytes, bytes, int, int, bytes]:
    """Returns the columns in the order of `insert_message`."""
    mid, topic, sender, client_id, ts, json, payload, *_ = message
    return topic.encode(), mid, sender.encode(), client_id.encode(), ts, int(json), payload


class MySQLArchive:
    """Rows and blocks in tables that are cut into months, groups and tags in others."""

    def __init__(self, host: str, port: int, user: str, password: bytes, database: str) -> None:
        self._connections = MySQLConnections(host, port, user, password, database)
        self.blocks = MySQLBlocks(self._connections)
        self.groups = MySQLGroups(self._connections)
        self.moderation = MySQLModeration(self._connections)
        self.operators = MySQLOperators(self._connections)
        self.states = MySQLStates(self._connections)
        self.tags = MySQLTags(self._connections)

    async def store_messages(self, messages: Sequence[Message]) -> None:
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["insert_message"], [_row(each) for each in messages])

    async def replace_messages(self, messages: Sequence[Message]) -> None:
        rows = []
        for each in messages:
            form, payload, replaced = columns(each)
            rows.append((*_row(each)[:5], form, payload, replaced))
        async with self._connections.cursor() as cursor:
            await cursor.connection.begin()
            await write_rows(cursor, _QUERIES["replace_message"], rows)
            await self.blocks.replace(cursor, messages)
            await cursor.connection.commit()

    async def message(self, conversation: str, mid: int) -> Message | None:
        found = await self._messages(_QUERIES["one_message"], [conversation.encode(), mid])
        return found[0] if found else None

    async def highest_id(self) -> int:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["highest_id"])
            (highest,) = await cursor.fetchone()
        return highest or 0

    async def oldest_id(self) -> int:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["oldest_id"])
            (oldest,) = await cursor.fetchone()
        return oldest or 0

    async def read(
        self, ranges: Sequence[VisibleRange], sender: str, after: int, before: int, limit: int
    ) -> list[Message]:
        return await read(self.blocks, self._rows, ranges, sender, after, before, limit)

    async def newest(self, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["newest_messages"], [highest, limit])

    async def newest_changes(self, highest: int, limit: int) -> list[Change]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["newest_changes"], (highest, limit))
            return [Change(channel.decode(), changed) for channel, changed in await cursor.fetchall()]

    async def scan(self, after: int, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["scan_messages"], [after, highest, limit])

    async def shards(self) -> int | None:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["shards"])
            row = await cursor.fetchone()
        return row[0] if row else None

    async def set_shards(self, count: int) -> None:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["set_shards"], (count,))

    async def ping(self) -> None:
        async with self._connections.cursor() as cursor:
            await cursor.connection.ping(reconnect=False)

    async def server_state(self, now: int) -> ServerState:
        return await server_state(self._connections, now)

    async def close(self) -> None:
        await self._connections.close()

    async def migrate(self) -> list[str]:
        async with self._connections.schema_cursor() as cursor:
            return await migrate("mysql", cursor.execute, lambda: self._applied(cursor))

    async def pending_migrations(self) -> list[str]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["migration_table"])
            (tables,) = await cursor.fetchone()
            applied = await self._applied(cursor) if tables else set()
        return [migration.name for migration in pending("mysql", applied)]

    async def keep_partitions(self, now: int) -> list[str]:
        return await make_months(self._connections, "message", lambda last_edge: months_to_make(last_edge, now))

    async def drop_messages(self, before: int) -> int:
        return await drop_months(self._connections, "message", before)

    async def _rows(self, ranges: Sequence[VisibleRange], limit: int) -> list[Message]:
        pages, arguments = pages_of_rows(
            _QUERIES["conversation_page"], _QUERIES["sent_page"], ranges, limit, str.encode
        )
        union = " UNION ALL ".join(f"({page})" for page in pages)
        return await self._messages(_QUERIES["merged_pages"].format(pages=union), [*arguments, limit])

    async def _messages(self, query: str, arguments: Sequence[Any]) -> list[Message]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(query, arguments)
            return [message(row) for row in await cursor.fetchall()]

    @staticmethod
    async def _applied(cursor: Any) -> set[int]:
        await cursor.execute(_QUERIES["applied_migrations"])
        return {version for (version,) in await cursor.fetchall()}
