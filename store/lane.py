"""One connection of Redis for one command at a time, without what redis-py costs for each argument and each call.

redis-py connects (address, TLS, login, database); then the connection is taken over, and hiredis packs commands and
reads replies. Measured with batches of eight messages: a third of the service's time was redis-py's.
"""

import asyncio
from typing import Any

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio import Redis

_INCOMPLETE = object()


class Lane:
    """Connects when there is something to ask, and again after the connection was lost.

    Waits for a reply as long as its caller does. A call that is cancelled takes the connection with it, as its reply
    would be read as that of the next one.
    """

    def __init__(self, redis: Redis) -> None:
        """redis: says where to connect, and as whom."""
        self._pool: Any = redis.connection_pool
        self._connection: Any = None
        self._replies: _Replies | None = None

    async def execute_command(self, *command: str | bytes | int) -> Any:
        """The reply. Raises RedisError, OSError."""
        replies = self._replies
        if replies is None or replies.lost:
            replies = await self._connect()
        try:
            return await replies.ask(hiredis.pack_command(command))  # type: ignore[arg-type]
        except asyncio.CancelledError:
            replies.abort()
            raise

    async def aclose(self) -> None:
        connection, self._connection, self._replies = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _connect(self) -> "_Replies":
        await self.aclose()
        self._connection = self._pool.make_connection()
        await self._connection.connect()
        self._replies = _Replies(self._connection._writer.transport)
        return self._replies


class _Replies(asyncio.Protocol):
    """One connection, until it is lost."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = hiredis.Reader(
            protocolError=redis_errors.InvalidResponse, replyError=_reply_error, notEnoughData=_INCOMPLETE
        )
        self._waiting: asyncio.Future[Any] | None = None
        self.lost = False
        transport.set_protocol(self)

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(command)
        return self._waiting

    def abort(self) -> None:
        self.lost = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        reply = self._reader.gets()
        if reply is not _INCOMPLETE:
            self._answer(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._answer(redis_errors.ConnectionError(str(error or "Redis closed the connection")))

    def _answer(self, reply: Any) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.done():
            return
        if isinstance(reply, Exception):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)


def _reply_error(text: str) -> Exception:
    """`ERR` is the code of what has none, as redis-py has it."""
    known = redis_errors.NoScriptError if text.startswith("NOSCRIPT ") else redis_errors.ResponseError
    return known(text.removeprefix("ERR "))
