"""Users' states, in SQLite."""

from collections.abc import Sequence
from typing import Any

from store.archive.sqlite.connection import SQLiteConnection
from store.archive.tables.sql import queries
from store.archive.tables.states import StateRow, newest_of_each

_QUERIES = queries("sqlite")


class SQLiteStates:
    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection

    async def store_states(self, rows: Sequence[StateRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["store_state"], newest_of_each(rows))

    async def delete_states(self, rows: Sequence[StateRow]) -> None:
        async with self._connection.transaction() as connection:
            await connection.executemany(_QUERIES["delete_state"], [row[:3] for row in newest_of_each(rows)])

    async def states(self, after: tuple[int, bytes], limit: int) -> list[StateRow]:
        return await self._fetch(_QUERIES["states_page"], (*after, limit))

    async def newest_states(self, highest: int, limit: int) -> list[StateRow]:
        return await self._fetch(_QUERIES["newest_states"], (highest, limit))

    async def _fetch(self, query: str, arguments: Sequence[Any]) -> list[StateRow]:
        async with self._connection.open() as connection:
            return [StateRow(*row) for row in await connection.execute_fetchall(query, arguments)]
