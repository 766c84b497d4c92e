"""The connection to one SQLite file."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from store.errors import ArchiveAway, ArchiveRefused
from store.private_files import open_private

BUSY_SECONDS = 5
"""How long to wait for another process that writes."""

_REFUSALS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError, UnicodeError)


class SQLiteConnection:
    """One connection, one transaction at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        async with self._lock:
            if self._connection is not None:
                await self._connection.close()
                self._connection = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self.open() as connection:
            try:
                await connection.execute("BEGIN IMMEDIATE")
                yield connection
                await connection.commit()
            except BaseException:
                # Queued behind whatever the thread is still doing, also when this task is being cancelled.
                await connection.rollback()
                raise

    @asynccontextmanager
    async def open(self) -> AsyncIterator[aiosqlite.Connection]:
        async with self._lock:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                yield self._connection
            except _REFUSALS as error:
                raise ArchiveRefused(str(error)) from error
            except sqlite3.Error as error:
                raise ArchiveAway(f"{self._path}: {error}") from error

    async def fetch(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """Returns the rows of a query. Raises ArchiveAway."""
        async with self.open() as connection:
            return list(await connection.execute_fetchall(query, arguments))

    async def delete(self, query: str, before: int, at_once: int) -> int:
        """Deletes what is before an id, `at_once` rows in each transaction, so that others are not held up for long.

        query: takes both. Returns how many rows were deleted.
        """
        deleted = 0
        while True:
            async with self.transaction() as connection:
                cursor = await connection.execute(query, (before, at_once))
            deleted += cursor.rowcount
            if cursor.rowcount < at_once:
                return deleted

    async def _connect(self) -> aiosqlite.Connection:
        # SQLite would follow a link, and make the file readable by all.
        try:
            os.close(open_private(Path(self._path)))
        except OSError as error:
            raise ArchiveAway(f"{self._path}: {error.strerror}") from error
        connection = await aiosqlite.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            # SQLite itself knows the case of ASCII alone.
            await connection.create_function("folded", 1, str.casefold, deterministic=True)
        except BaseException:
            await connection.close()
            raise
        return connection
