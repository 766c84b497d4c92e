"""Reads what a MySQL or MariaDB server says of itself."""

from store.archive.mysql.connections import MySQLConnections
from store.archive.mysql.partitions import last_edge
from store.archive.tables.months import months_to_make
from store.archive.tables.server_state import ServerState
from store.archive.tables.sql import queries

_QUERIES = queries("mysql")


async def server_state(connections: MySQLConnections, now: int) -> ServerState:
    """Returns the server's state. now: microseconds. Raises ArchiveAway."""
    async with connections.cursor() as cursor:
        await cursor.execute(_QUERIES["server_state"])
        version, clock = await cursor.fetchone()
        edge = await last_edge(cursor, "message")
    missing = [month.partition for month in months_to_make(edge, now)]
    product = "mariadb" if "mariadb" in str(version).lower() else "mysql"
    return ServerState(product, str(version), int(clock * 1_000_000), missing)
