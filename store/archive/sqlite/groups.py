"""Groups in SQLite."""

from collections.abc import Sequence

from store.archive.sqlite.connection import SQLiteConnection
from store.archive.tables.groups import GroupRow, MemberRow, group_changes
from store.archive.tables.sql import queries

_QUERIES = queries("sqlite")


class SQLiteGroups:
    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    async def store_groups(self, rows: Sequence[GroupRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_group"], rows)
            await connection.executemany(_QUERIES["store_change"], group_changes(rows))

    async def store_members(self, rows: Sequence[MemberRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_member"], rows)

    async def groups(self, after: int, limit: int) -> list[GroupRow]:
        return await self._groups(_QUERIES["groups_page"], after, limit)

    async def living(self, after: int, limit: int, name: str = "") -> list[GroupRow]:
        folded = name.casefold()
        return await self._groups(_QUERIES["living_groups"], after, folded, folded, limit)

    async def members(self, gid: int, after: tuple[int, int], limit: int) -> list[MemberRow]:
        rows = await self._connection.fetch(_QUERIES["members_page"], (gid, *after, limit))
        return [MemberRow(gid, uid, joined, left, bool(kicked)) for gid, uid, joined, left, kicked in rows]

    async def _groups(self, query: str, *arguments: object) -> list[GroupRow]:
        return [
            GroupRow(gid, owner, mode, bool(is_open), *others)
            for gid, owner, mode, is_open, *others in await self._connection.fetch(query, arguments)
        ]
