"""Tables that are cut into months by id. Changes are made by one process at a time."""

from collections.abc import Callable
from typing import Any

from store.archive.mysql.connections import MySQLConnections
from store.archive.tables.months import Month
from store.archive.tables.sql import queries

_QUERIES = queries("mysql")

Wanted = Callable[[int | None], list[Month]]
"""The months that are missing where the last one there is ends at an edge, or there is none."""


async def make_months(connections: MySQLConnections, table: str, wanted: Wanted) -> list[str]:
    """Cuts months off the table's last partition; returns their names."""
    async with connections.cursor() as cursor:
        if not wanted(await last_edge(cursor, table)):
            return []
    async with connections.schema_cursor() as cursor:
        months = wanted(await last_edge(cursor, table))
        if months:
            one = _QUERIES["partition_of_month"]
            text = ", ".join(one.format(name=month.partition, edge=month.edge) for month in months)
            await cursor.execute(_QUERIES["make_partitions"].format(table=table, months=text))
    return [month.partition for month in months]


async def drop_months(connections: MySQLConnections, table: str, before: int) -> int:
    """Drops the months that are wholly below an id; returns how many."""
    async with connections.cursor() as cursor:
        if not await _below(cursor, table, before):
            return 0
    async with connections.schema_cursor() as cursor:
        names = await _below(cursor, table, before)
        if names:
            await cursor.execute(_QUERIES["drop_partitions"].format(table=table, names=", ".join(names)))
    return len(names)


async def _below(cursor: Any, table: str, before: int) -> list[str]:
    return [name for name, edge in (await _edges(cursor, table)).items() if edge <= before]


async def last_edge(cursor: Any, table: str) -> int | None:
    """Returns the upper edge of the newest month; None if there is none."""
    return max((await _edges(cursor, table)).values(), default=None)


async def _edges(cursor: Any, table: str) -> dict[str, int]:
    """Returns the months there are: name to upper edge, oldest first."""
    await cursor.execute(_QUERIES["partitions"], (table,))
    return {name: int(edge) for name, edge in await cursor.fetchall() if edge != "MAXVALUE"}
