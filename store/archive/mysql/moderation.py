"""Keeps admins, mutes and notices of groups in MySQL."""

from collections.abc import Sequence

from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.rows import write_rows
from store.archive.tables.moderation import ModerationRow, MuteRow
from store.archive.tables.sql import queries

_QUERIES = queries("mysql")


class MySQLModeration:
    def __init__(self, connections: MySQLConnections) -> None:
        self._connections = connections

    async def store_moderations(self, rows: Sequence[ModerationRow]) -> None:
        values = [(*row[:3], row.admins.encode(), row.notice.encode()) for row in rows]
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_moderation"], values)

    async def store_mutes(self, rows: Sequence[MuteRow]) -> None:
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_mute"], rows)

    async def moderations(self, after: int, limit: int) -> list[ModerationRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["moderations_page"], (after, limit))
            return [
                ModerationRow(gid, changed, muted_until, admins.decode(), notice.decode())
                for gid, changed, muted_until, admins, notice in await cursor.fetchall()
            ]

    async def mutes(self, after: tuple[int, int], limit: int) -> list[MuteRow]:
        gid, uid = after
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["mutes_page"], (gid, gid, uid, limit))
            return [MuteRow(*row) for row in await cursor.fetchall()]
