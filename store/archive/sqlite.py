"""The archive in one SQLite file: for a single machine and for trying out."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite

from store.archive.sql import migrations, queries
from store.errors import ArchiveAway, ArchiveRefused
from store.record import Message

_QUERIES = queries("sqlite")

BUSY_SECONDS = 5
"""How long to wait for another process that writes."""
DELETED_AT_ONCE = 5000

_REFUSALS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError, UnicodeError)


class SQLiteArchive:
    """One connection, one transaction at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

    async def store_messages(self, messages: Sequence[Message]) -> None:
        rows = [(m.topic, m.mid, m.sender, m.client_id, m.ts, int(m.json), m.payload) for m in messages]
        async with self._transaction() as connection:
            await connection.executemany(_QUERIES["insert_message"], rows)

    async def highest_id(self) -> int:
        async with self._open() as connection, connection.execute(_QUERIES["highest_id"]) as cursor:
            row = await cursor.fetchone()
        return row[0] or 0 if row else 0

    async def read(
        self, conversations: Sequence[str], sender: str, after: int, before: int, limit: int
    ) -> list[Message]:
        pages = [_QUERIES["conversation_page"]] * len(conversations) + [_QUERIES["sent_page"]]
        arguments: list[Any] = []
        for conversation in conversations:
            arguments += (conversation, after, before, limit)
        arguments += (sender, f"single/{sender}", after, before, limit, limit)
        union = " UNION ALL ".join(f"SELECT * FROM ({page})" for page in pages)  # noqa: S608
        return await self._messages(_QUERIES["merged_pages"].format(pages=union), arguments)

    async def newest(self, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["newest_messages"], [highest, limit])

    async def scan(self, after: int, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["scan_messages"], [after, highest, limit])

    async def ping(self) -> None:
        async with self._open() as connection:
            await connection.execute("SELECT 1")

    async def close(self) -> None:
        async with self._lock:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None

    async def migrate(self) -> list[str]:
        async with self._transaction() as connection:
            await connection.execute(_QUERIES["create_migration"])
            applied = await self._applied(connection)
            pending = [migration for migration in migrations("sqlite") if migration.version not in applied]
            for migration in pending:
                for statement in migration.statements:
                    await connection.execute(statement)
                note = (migration.version, migration.name, time.time_ns() // 1_000_000)
                await connection.execute(_QUERIES["insert_migration"], note)
        return [migration.name for migration in pending]

    async def pending_migrations(self) -> list[str]:
        async with self._open() as connection:
            tables = list(await connection.execute_fetchall(_QUERIES["migration_table"]))
            applied = await self._applied(connection) if tables[0][0] else set()
        return [migration.name for migration in migrations("sqlite") if migration.version not in applied]

    async def keep_partitions(self, now: int) -> list[str]:
        return []

    async def drop_messages(self, before: int) -> int:
        deleted = 0
        while True:
            async with self._transaction() as connection:
                cursor = await connection.execute(_QUERIES["delete_messages"], (before, DELETED_AT_ONCE))
            deleted += cursor.rowcount
            if cursor.rowcount < DELETED_AT_ONCE:
                return deleted

    async def _messages(self, query: str, arguments: Sequence[Any]) -> list[Message]:
        async with self._open() as connection:
            rows = await connection.execute_fetchall(query, arguments)
        return [
            Message(mid, topic, sender, client_id, ts, bool(form), payload)
            for topic, mid, sender, client_id, ts, form, payload in rows
        ]

    @staticmethod
    async def _applied(connection: aiosqlite.Connection) -> set[int]:
        return {row[0] for row in await connection.execute_fetchall(_QUERIES["applied_migrations"])}

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._open() as connection:
            try:
                await connection.execute("BEGIN IMMEDIATE")
                yield connection
                await connection.commit()
            except BaseException:
                # Queued behind whatever the thread is still doing, also when this task is being cancelled.
                await connection.rollback()
                raise

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._lock:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                yield self._connection
            except _REFUSALS as error:
                raise ArchiveRefused(str(error)) from error
            except sqlite3.Error as error:
                raise ArchiveAway(f"{self._path}: {error}") from error

    async def _connect(self) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            await connection.close()
            raise
        return connection
