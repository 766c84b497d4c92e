"""Groups in MySQL."""

from collections.abc import Sequence

from store.archive.mysql.changes import write_changes
from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.rows import write_rows
from store.archive.tables.groups import GroupRow, MemberRow, group_changes
from store.archive.tables.sql import queries

_QUERIES = queries("mysql")


class MySQLGroups:
    def __init__(self, connections: MySQLConnections) -> None:
        self._connections = connections

    async def store_groups(self, rows: Sequence[GroupRow]) -> None:
        values = [
            (*row[:2], row.mode.encode(), int(row.open), row.made, row.dismissed, row.changed, row.name.encode())
            for row in rows
        ]
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_group"], values)
            await write_changes(cursor, group_changes(rows))

    async def store_members(self, rows: Sequence[MemberRow]) -> None:
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_member"], [(*row[:4], int(row.kicked)) for row in rows])

    async def groups(self, after: int, limit: int) -> list[GroupRow]:
        return await self._groups(_QUERIES["groups_page"], after, limit)

    async def living(self, after: int, limit: int, name: str = "") -> list[GroupRow]:
        return await self._groups(_QUERIES["living_groups"], after, name, name, limit)

    async def _groups(self, query: str, *arguments: object) -> list[GroupRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(query, arguments)
            return [
                GroupRow(gid, owner, mode.decode(), bool(is_open), made, dismissed, changed, name.decode())
                for gid, owner, mode, is_open, made, dismissed, changed, name in await cursor.fetchall()
            ]

    async def members(self, gid: int, after: tuple[int, int], limit: int) -> list[MemberRow]:
        uid, joined = after
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["members_page"], (gid, uid, uid, joined, limit))
            return [
                MemberRow(gid, uid, joined, left, bool(kicked))
                for gid, uid, joined, left, kicked in await cursor.fetchall()
            ]
