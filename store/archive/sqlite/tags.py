"""Tags in SQLite."""

from collections.abc import Sequence

from store.archive.sqlite.connection import SQLiteConnection
from store.archive.tables.sql import queries
from store.archive.tables.tags import DELETED_AT_ONCE, HolderRow, TagRow, tag_changes

_QUERIES = queries("sqlite")


class SQLiteTags:
    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    async def store_tags(self, rows: Sequence[TagRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_tag"], rows)
            await connection.executemany(_QUERIES["store_change"], tag_changes(rows))

    async def store_holders(self, rows: Sequence[HolderRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_holder"], rows)
            await connection.executemany(_QUERIES["store_change"], tag_changes(rows))

    async def tags(self, after: str, limit: int) -> list[TagRow]:
        rows = await self._connection.fetch(_QUERIES["tags_page"], (after, limit))
        return [TagRow(tag, bool(followable), *others) for tag, followable, *others in rows]

    async def holders(self, tag: str, after: tuple[int, int], limit: int) -> list[HolderRow]:
        return [
            HolderRow(tag, *row) for row in await self._connection.fetch(_QUERIES["holders_page"], (tag, *after, limit))
        ]

    async def holding(self, tag: str, after: int, limit: int) -> list[HolderRow]:
        return [HolderRow(tag, *row) for row in await self._connection.fetch(_QUERIES["holding"], (tag, after, limit))]

    async def drop(self, before: int) -> int:
        return await self._connection.delete(_QUERIES["delete_holders"], before, DELETED_AT_ONCE)
