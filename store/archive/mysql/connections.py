"""Connections to MySQL 8 or MariaDB 10.11: a few, on autocommit, so that one statement is one transaction."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncmy
from asyncmy import errors

from store.archive.tables.sql import queries
from store.closed_transport import is_closed_transport
from store.errors import ArchiveAway, ArchiveRefused

_QUERIES = queries("mysql")

CONNECTIONS = 4
CONNECT_SECONDS = 3
ANSWER_SECONDS = 5
"""For one call, from waiting for a connection to the answer: one batch of the archiver, mostly."""
SCHEMA_SECONDS = 3600
"""For changing the schema: a table of many rows takes long."""
LOCK_SECONDS = 60
"""For another process that is changing the schema."""

_SESSION = (
    # Strict, so that what does not fit raises; backslash escapes, as the driver writes them. No notes: they
    # say that something was there already. Nobody waits long for a lock: it is tried again.
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_notes = 0,"
    " lock_wait_timeout = 5, innodb_lock_wait_timeout = 5"
)

MIN_PACKET = 4 * 1024 * 1024
"""`max_allowed_packet` must take any one row: a payload has up to 1 MiB, and twice that when it is escaped."""

_NO_PARTITION = 1526


def _refused(error: BaseException) -> bool:
    """True if the rows are what is wrong, so that trying them again is useless."""
    if isinstance(error, errors.DataError | errors.IntegrityError | UnicodeError):
        return True
    return isinstance(error, errors.MySQLError) and error.args[:1] == (_NO_PARTITION,)


class MySQLConnections:
    """Lends a connection for one call."""

    def __init__(self, host: str, port: int, user: str, password: bytes, database: str) -> None:
        self._address: dict[str, Any] = {
            "host": host,
            "port": port,
            "user": user,
            "password": password,
            "database": database,
        }
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[Any] = []

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.ensure_closed()

    @asynccontextmanager
    async def schema_cursor(self) -> AsyncIterator[Any]:
        """Yields a cursor that alone may change the schema. If its process dies the server lets the lock go."""
        async with self.cursor(SCHEMA_SECONDS) as cursor:
            await cursor.execute(_QUERIES["lock_schema"], (LOCK_SECONDS,))
            if await cursor.fetchone() != (1,):
                raise ArchiveAway(f"another process has been changing the schema for {LOCK_SECONDS} s")
            yield cursor
            await cursor.execute(_QUERIES["unlock_schema"])

    @asynccontextmanager
    async def cursor(self, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Any]:
        """Yields a cursor for one call. After any error its connection is closed: the server may have closed it too."""
        try:
            async with asyncio.timeout(seconds), self._slots:
                connection = self._idle.pop() if self._idle else await self._connect()
                try:
                    async with connection.cursor() as cursor:
                        yield cursor
                except BaseException:
                    connection.close()
                    raise
                self._idle.append(connection)
        except TimeoutError as error:
            self._drop_idle()
            raise ArchiveAway(f"no answer within {seconds:.0f} s") from error
        except (errors.MySQLError, UnicodeError, OSError) as error:
            if _refused(error):
                raise ArchiveRefused(str(error)) from error
            self._drop_idle()
            raise ArchiveAway(str(error)) from error
        except RuntimeError as error:
            if not is_closed_transport(error):
                raise
            self._drop_idle()
            raise ArchiveAway("the connection was closed") from error

    async def _connect(self) -> Any:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await asyncmy.connect(**self._address, autocommit=True, init_command=_SESSION)
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(_QUERIES["largest_packet"])
                    (largest,) = await cursor.fetchone()
                if largest < MIN_PACKET:
                    # A statement over it only looks like a lost connection, and would be tried for ever.
                    raise ArchiveAway(f"max_allowed_packet is {largest}, and must be {MIN_PACKET} at least")
            except BaseException:
                connection.close()
                raise
        return connection

    def _drop_idle(self) -> None:
        """Closes idle connections: after trouble with one the others are not trusted, as the server may have
        restarted."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
