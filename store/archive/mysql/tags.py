"""Tags in MySQL."""

from collections.abc import Sequence

from store.archive.mysql.changes import write_changes
from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.rows import write_rows
from store.archive.tables.sql import queries
from store.archive.tables.tags import DELETED_AT_ONCE, HolderRow, TagRow, tag_changes

_QUERIES = queries("mysql")


class MySQLTags:
    def __init__(self, connections: MySQLConnections) -> None:
        self._connections = connections

    async def store_tags(self, rows: Sequence[TagRow]) -> None:
        values = [(row.tag.encode(), int(row.followable), *row[2:5], row.title.encode()) for row in rows]
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_tag"], values)
            await write_changes(cursor, tag_changes(rows))

    async def store_holders(self, rows: Sequence[HolderRow]) -> None:
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_holder"], [(row.tag.encode(), *row[1:]) for row in rows])
            await write_changes(cursor, tag_changes(rows))

    async def tags(self, after: str, limit: int) -> list[TagRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["tags_page"], (after.encode(), limit))
            return [
                TagRow(tag.decode(), bool(followable), made, deleted, changed, title.decode())
                for tag, followable, made, deleted, changed, title in await cursor.fetchall()
            ]

    async def holders(self, tag: str, after: tuple[int, int], limit: int) -> list[HolderRow]:
        uid, joined = after
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["holders_page"], (tag.encode(), uid, uid, joined, limit))
            return [HolderRow(tag, *row) for row in await cursor.fetchall()]

    async def holding(self, tag: str, after: int, limit: int) -> list[HolderRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["holding"], (tag.encode(), after, limit))
            return [HolderRow(tag, *row) for row in await cursor.fetchall()]

    async def drop(self, before: int) -> int:
        dropped = 0
        while True:
            async with self._connections.cursor() as cursor:
                count: int = await cursor.execute(_QUERIES["delete_holders"], (before, DELETED_AT_ONCE))
            dropped += count
            if count < DELETED_AT_ONCE:
                return dropped
