"""The archive in MySQL 8 or MariaDB 10.11."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncmy
from asyncmy import errors
from asyncmy.constants import ER

from store.archive.months import months_to_make
from store.archive.sql import migrations, queries
from store.errors import ArchiveAway, ArchiveRefused
from store.record import Message

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

LEAST_PACKET = 4 * 1024 * 1024
"""`max_allowed_packet` must take any one row: a payload has up to 1 MiB, and twice that when it is escaped."""

_NO_PARTITION = 1526


def _refused(error: BaseException) -> bool:
    """True if the rows are what is wrong, so that trying them again is useless."""
    if isinstance(error, errors.DataError | errors.IntegrityError | UnicodeError):
        return True
    return isinstance(error, errors.MySQLError) and error.args[:1] == (_NO_PARTITION,)


def _row(message: Message) -> tuple[bytes, int, bytes, bytes, int, int, bytes]:
    """In the order of `insert_message`."""
    mid, topic, sender, client_id, ts, json, payload = message
    return topic.encode(), mid, sender.encode(), client_id.encode(), ts, int(json), payload


class MySQLArchive:
    """A few connections on autocommit: one statement is one transaction."""

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

    async def store_messages(self, messages: Sequence[Message]) -> None:
        async with self._cursor() as cursor:
            await cursor.executemany(_QUERIES["insert_message"], [_row(message) for message in messages])

    async def highest_id(self) -> int:
        async with self._cursor() as cursor:
            await cursor.execute(_QUERIES["highest_id"])
            (highest,) = await cursor.fetchone()
        return highest or 0

    async def read(
        self, conversations: Sequence[str], sender: str, after: int, before: int, limit: int
    ) -> list[Message]:
        pages = [_QUERIES["conversation_page"]] * len(conversations) + [_QUERIES["sent_page"]]
        arguments: list[Any] = []
        for conversation in conversations:
            arguments += (conversation.encode(), after, before, limit)
        arguments += (sender.encode(), f"single/{sender}".encode(), after, before, limit, limit)
        union = " UNION ALL ".join(f"({page})" for page in pages)
        return await self._messages(_QUERIES["merged_pages"].format(pages=union), arguments)

    async def newest(self, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["newest_messages"], [highest, limit])

    async def scan(self, after: int, highest: int, limit: int) -> list[Message]:
        return await self._messages(_QUERIES["scan_messages"], [after, highest, limit])

    async def ping(self) -> None:
        async with self._cursor() as cursor:
            await cursor.connection.ping(reconnect=False)

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.ensure_closed()

    async def migrate(self) -> list[str]:
        async with self._schema_cursor() as cursor:
            await cursor.execute(_QUERIES["create_migration"])
            applied = await self._applied(cursor)
            pending = [migration for migration in migrations("mysql") if migration.version not in applied]
            for migration in pending:
                for statement in migration.statements:
                    await cursor.execute(statement)
                note = (migration.version, migration.name, time.time_ns() // 1_000_000)
                await cursor.execute(_QUERIES["insert_migration"], note)
        return [migration.name for migration in pending]

    async def pending_migrations(self) -> list[str]:
        async with self._cursor() as cursor:
            applied = await self._applied(cursor)
        return [migration.name for migration in migrations("mysql") if migration.version not in applied]

    async def keep_partitions(self, now: int) -> list[str]:
        async with self._cursor() as cursor:
            if not months_to_make(await self._last_edge(cursor), now):
                return []
        async with self._schema_cursor() as cursor:
            months = months_to_make(await self._last_edge(cursor), now)
            if months:
                one = _QUERIES["partition_of_month"]
                text = ", ".join(one.format(name=month.name, edge=month.edge) for month in months)
                await cursor.execute(_QUERIES["make_partitions"].format(months=text))
        return [month.name for month in months]

    async def drop_messages(self, before: int) -> int:
        async with self._cursor() as cursor:
            if not self._below(before, await self._edges(cursor)):
                return 0
        async with self._schema_cursor() as cursor:
            names = self._below(before, await self._edges(cursor))
            if names:
                await cursor.execute(_QUERIES["drop_partitions"].format(names=", ".join(names)))
        return len(names)

    async def _messages(self, query: str, arguments: Sequence[Any]) -> list[Message]:
        async with self._cursor() as cursor:
            await cursor.execute(query, arguments)
            rows = await cursor.fetchall()
        return [
            Message(mid, topic.decode(), sender.decode(), client_id.decode(), ts, bool(form), payload)
            for topic, mid, sender, client_id, ts, form, payload in rows
        ]

    @staticmethod
    def _below(before: int, edges: dict[str, int]) -> list[str]:
        return [name for name, edge in edges.items() if edge <= before]

    @staticmethod
    async def _applied(cursor: Any) -> set[int]:
        try:
            await cursor.execute(_QUERIES["applied_migrations"])
        except errors.ProgrammingError as error:
            if error.args[0] != ER.NO_SUCH_TABLE:
                raise
            return set()
        return {version for (version,) in await cursor.fetchall()}

    @staticmethod
    async def _edges(cursor: Any) -> dict[str, int]:
        """The months there are: name to upper edge, oldest first."""
        await cursor.execute(_QUERIES["partitions"])
        return {name: int(edge) for name, edge in await cursor.fetchall() if edge != "MAXVALUE"}

    async def _last_edge(self, cursor: Any) -> int | None:
        return max((await self._edges(cursor)).values(), default=None)

    @asynccontextmanager
    async def _schema_cursor(self) -> AsyncIterator[Any]:
        """A cursor that alone may change the schema. If its process dies the server lets the lock go."""
        async with self._cursor(SCHEMA_SECONDS) as cursor:
            await cursor.execute(_QUERIES["lock_schema"], (LOCK_SECONDS,))
            if await cursor.fetchone() != (1,):
                raise ArchiveAway(f"another process has been changing the schema for {LOCK_SECONDS} s")
            yield cursor
            await cursor.execute(_QUERIES["unlock_schema"])

    @asynccontextmanager
    async def _cursor(self, seconds: float = ANSWER_SECONDS) -> AsyncIterator[Any]:
        """A cursor for one call. After any error its connection is closed: the server may have closed it too."""
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

    async def _connect(self) -> Any:
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await asyncmy.connect(**self._address, autocommit=True, init_command=_SESSION)
            try:
                async with connection.cursor() as cursor:
                    await cursor.execute(_QUERIES["largest_packet"])
                    (largest,) = await cursor.fetchone()
                if largest < LEAST_PACKET:
                    # A statement over it only looks like a lost connection, and would be tried for ever.
                    raise ArchiveAway(f"max_allowed_packet is {largest}, and must be {LEAST_PACKET} at least")
            except BaseException:
                connection.close()
                raise
        return connection

    def _drop_idle(self) -> None:
        """After trouble with one connection the others are not trusted: the server may have restarted."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
