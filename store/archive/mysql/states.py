"""Users' states, in MySQL."""

from collections.abc import Sequence

from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.rows import write_rows
from store.archive.tables.sql import queries
from store.archive.tables.states import StateRow, newest_of_each

_QUERIES = queries("mysql")


class MySQLStates:
    def __init__(self, connections: MySQLConnections) -> None:
        self._connections = connections

    async def store_states(self, rows: Sequence[StateRow]) -> None:
        async with self._connections.cursor() as cursor:
            await write_rows(cursor, _QUERIES["store_state"], newest_of_each(rows))

    async def delete_states(self, rows: Sequence[StateRow]) -> None:
        async with self._connections.cursor() as cursor:
            await cursor.executemany(_QUERIES["delete_state"], [row[:3] for row in newest_of_each(rows)])

    async def states(self, after: tuple[int, bytes], limit: int) -> list[StateRow]:
        uid, name = after
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["states_page"], (uid, uid, name, limit))
            return [StateRow(*row) for row in await cursor.fetchall()]

    async def newest_states(self, highest: int, limit: int) -> list[StateRow]:
        async with self._connections.cursor() as cursor:
            await cursor.execute(_QUERIES["newest_states"], (highest, limit))
            return [StateRow(*row) for row in await cursor.fetchall()]
