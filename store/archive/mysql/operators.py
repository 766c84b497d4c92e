"""Keeps what operators did, and whom they banned, in MySQL."""

from collections.abc import Sequence

from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.rows import write_rows
from store.archive.tables.operators import AuditRow, BanRow
from store.archive.tables.sql import queries
from store.archive.tables.tags import DELETED_AT_ONCE

_QUERIES = queries("mysql")


class MySQLOperators:
    def __init__(self, connections: MySQLConnections) -> None:
        self._connections = connections

    async def store_bans(self, rows: Sequence[BanRow]) -> None:
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_ban"], [(*row[:3], row.reason.encode()) for row in rows])

    async def bans(self, after: int, now: int, limit: int) -> list[BanRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["bans_page"], (after, now, limit))
            rows = await cursor.fetchall()
        return [BanRow(uid, until, changed, reason.decode()) for uid, until, changed, reason in rows]

    async def newest_ban(self, highest: int) -> int:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["newest_ban"], (highest,))
            ((newest,),) = await cursor.fetchall()
        return newest or 0

    async def store_audit(self, rows: Sequence[AuditRow]) -> None:
        values = [
            (row.id, row.name.encode(), row.address.encode(), row.path.encode(), row.status, row.detail.encode())
            for row in rows
        ]
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_audit"], values)

    async def audit(self, before: int, limit: int, path: str = "") -> list[AuditRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["audit_page"], (before, path.encode(), path.encode(), limit))
            rows = await cursor.fetchall()
        return [
            AuditRow(id_, name.decode(), address.decode(), path.decode(), status, detail.decode())
            for id_, name, address, path, status, detail in rows
        ]

    async def drop_audit(self, before: int) -> int:
        dropped = 0
        while True:
            async with self._connections.cursor() as cursor:
                count: int = await cursor.execute(_QUERIES["delete_audit"], (before, DELETED_AT_ONCE))
            dropped += count
            if count < DELETED_AT_ONCE:
                return dropped
