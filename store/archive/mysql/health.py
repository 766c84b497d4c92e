"""What a MySQL or MariaDB server says of itself."""

from typing import NamedTuple

from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.partitions import last_edge
from store.archive.tables.months import months_to_make
from store.archive.tables.sql import queries

_QUERIES = queries("mysql")


class ServerState(NamedTuple):
    """version: as the server writes it. clock: microseconds. missing: months ahead that have no partition."""

    version: str
    clock: int
    missing: list[str]


async def server_state(connections: MySQLConnections, now: int) -> ServerState:
    """now: microseconds. Raises ArchiveAway."""
    async with connections.cursor() as cursor:
        await cursor.execute(_QUERIES["server_state"])
        version, clock = await cursor.fetchone()
        edge = await last_edge(cursor, "message")
    missing = [month.partition for month in months_to_make(edge, now)]
    return ServerState(str(version), int(clock * 1_000_000), missing)
