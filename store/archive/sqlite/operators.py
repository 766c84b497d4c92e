"""Keeps what operators did, and whom they banned, in SQLite."""

from collections.abc import Sequence

from store.archive.sqlite.connection import SQLiteConnection
from store.archive.tables.operators import AuditRow, BanRow
from store.archive.tables.sql import queries
from store.archive.tables.tags import DELETED_AT_ONCE

_QUERIES = queries("sqlite")


class SQLiteOperators:
    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    async def store_bans(self, rows: Sequence[BanRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_ban"], rows)

    async def bans(self, after: int, now: int, limit: int) -> list[BanRow]:
        return [BanRow(*row) for row in await self._connection.fetch(_QUERIES["bans_page"], (after, now, limit))]

    async def newest_ban(self, highest: int) -> int:
        return (await self._connection.fetch(_QUERIES["newest_ban"], (highest,)))[0][0] or 0

    async def store_audit(self, rows: Sequence[AuditRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_audit"], rows)

    async def audit(self, before: int, limit: int, path: str = "") -> list[AuditRow]:
        return [
            AuditRow(*row) for row in await self._connection.fetch(_QUERIES["audit_page"], (before, path, path, limit))
        ]

    async def drop_audit(self, before: int) -> int:
        return await self._connection.delete(_QUERIES["delete_audit"], before, DELETED_AT_ONCE)
