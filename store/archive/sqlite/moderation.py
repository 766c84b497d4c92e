"""Keeps admins, mutes and notices of groups in SQLite."""

from collections.abc import Sequence

from store.archive.sqlite.connection import SQLiteConnection
from store.archive.tables.moderation import ModerationRow, MuteRow
from store.archive.tables.sql import queries

_QUERIES = queries("sqlite")


class SQLiteModeration:
    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    async def store_moderations(self, rows: Sequence[ModerationRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_moderation"], rows)

    async def store_mutes(self, rows: Sequence[MuteRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_mute"], rows)

    async def moderations(self, after: int, limit: int) -> list[ModerationRow]:
        return [
            ModerationRow(*row) for row in await self._connection.fetch(_QUERIES["moderations_page"], (after, limit))
        ]

    async def mutes(self, after: tuple[int, int], limit: int) -> list[MuteRow]:
        return [MuteRow(*row) for row in await self._connection.fetch(_QUERIES["mutes_page"], (*after, limit))]
