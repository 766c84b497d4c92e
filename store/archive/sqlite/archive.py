"""The archive in one SQLite file: for a single machine and for trying out."""

from collections.abc import Sequence
from typing import Any

import aiosqlite

from store.archive.sqlite.blocks import SQLiteBlocks, message
from store.archive.sqlite.connection import SQLiteConnection
from store.archive.sqlite.groups import SQLiteGroups
from store.archive.sqlite.moderation import SQLiteModeration
from store.archive.sqlite.operators import SQLiteOperators
from store.archive.sqlite.states import SQLiteStates
from store.archive.sqlite.tags import SQLiteTags
from store.archive.tables.changes import Change
from store.archive.tables.roaming import pages_of_rows, read
from store.archive.tables.rows import columns
from store.archive.tables.server_state import ServerState
from store.archive.tables.sql import migrate, pending, queries
from store.archive.tables.visible_range import VisibleRange
from store.record import Message

_QUERIES = queries("sqlite")

DELETED_AT_ONCE = 5000


class SQLiteArchive:
    """Rows, blocks, groups and tags in one file."""

    def __init__(self, path: str) -> None:
        self._connection = SQLiteConnection(path)
        self.blocks = SQLiteBlocks(self._connection)
        self.groups = SQLiteGroups(self._connection)
        self.moderation = SQLiteModeration(self._connection)
        self.operators = SQLiteOperators(self._connection)
        self.states = SQLiteStates(self._connection)
        self.tags = SQLiteTags(self._connection)

    async def store_messages(self, messages: Sequence[Message]) -> None:
        rows = [(m.topic, m.mid, m.sender, m.client_id, m.ts, int(m.json), m.payload) for m in messages]
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["insert_message"], rows)

    async def replace_messages(self, messages: Sequence[Message]) -> None:
        rows = [(m.topic, m.mid, m.sender, m.client_id, m.ts, *columns(m)) for m in messages]
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["replace_message"], rows)
            await self.blocks.replace(connection, messages)

    async def message(self, conversation: str, mid: int) -> Message | None:
        found = await self._messages(_QUERIES["one_message"], [conversation, mid])
        return found[0] if found else None

    async def highest_id(self) -> int:
        async with self._connection.open() as connection, connection.execute(_QUERIES["highest_id"]) as cursor:
            row = await cursor.fetchone()
        return row[0] or 0 if row else 0

    async def oldest_id(self) -> int:
        async with self._connection.open() as connection, connection.execute(_QUERIES["oldest_id"]) as cursor:
            row = await cursor.fetchone()
        return row[0] or 0 if row else 0

    async def read(
        self, ranges: Sequence[VisibleRange], sender: str, after: int, before: int, limit: int
    ) -> list[Message]:
        return await read(self.blocks, self._rows, ranges, sender, after, before, limit)

    async def newest(self, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["newest_messages"], [highest, limit])

    async def newest_changes(self, highest: int, limit: int) -> list[Change]:
        async with self._connection.open() as connection:
            rows = await connection.execute_fetchall(_QUERIES["newest_changes"], (highest, limit))
        return [Change(*row) for row in rows]

    async def scan(self, after: int, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["scan_messages"], [after, highest, limit])

    async def shards(self) -> int | None:
        rows = await self._connection.fetch(_QUERIES["shards"], ())
        return rows[0][0] if rows else None

    async def set_shards(self, count: int) -> None:
        async with self._connection.transaction() as connection:
            await connection.execute(_QUERIES["set_shards"], (count,))

    async def ping(self) -> None:
        async with self._connection.open() as connection:
            await connection.execute("SELECT 1")

    async def server_state(self, now: int) -> ServerState:
        return ServerState("sqlite", "", now, [])

    async def close(self) -> None:
        await self._connection.close()

    async def migrate(self) -> list[str]:
        async with self._connection.transaction() as connection:
            return await migrate("sqlite", connection.execute, lambda: self._applied(connection))

    async def pending_migrations(self) -> list[str]:
        async with self._connection.open() as connection:
            tables = list(await connection.execute_fetchall(_QUERIES["migration_table"]))
            applied = await self._applied(connection) if tables[0][0] else set()
        return [migration.name for migration in pending("sqlite", applied)]

    async def keep_partitions(self, now: int) -> list[str]:
        return []

    async def drop_messages(self, before: int) -> int:
        return await self._connection.delete(_QUERIES["delete_messages"], before, DELETED_AT_ONCE)

    async def _rows(self, ranges: Sequence[VisibleRange], limit: int) -> list[Message]:
        pages, arguments = pages_of_rows(_QUERIES["conversation_page"], _QUERIES["sent_page"], ranges, limit)
        union = " UNION ALL ".join(f"SELECT * FROM ({page})" for page in pages)  # noqa: S608
        return await self._messages(_QUERIES["merged_pages"].format(pages=union), [*arguments, limit])

    async def _messages(self, query: str, arguments: Sequence[Any]) -> list[Message]:
        async with self._connection.open() as connection:
            return [message(row) for row in await connection.execute_fetchall(query, arguments)]

    @staticmethod
    async def _applied(connection: aiosqlite.Connection) -> set[int]:
        return {row[0] for row in await connection.execute_fetchall(_QUERIES["applied_migrations"])}
