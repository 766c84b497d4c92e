"""One connection of Redis, without what redis-py costs for each argument and each call.

redis-py connects (address, TLS, login, database); then the connection is taken over, and hiredis packs commands and
reads replies. Measured with batches of eight messages, and with empty pulls: a third of the service's time was
redis-py's.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis

from store.cancellation import end
from store.closed_transport import is_closed_transport
from store.errors import StoreAway
from store.redis.client import RedisClient, asked_again, refusal, translated

_INCOMPLETE = object()


def transport_of(connection: Any) -> asyncio.Transport:
    """Returns the transport of a connection that redis-py made, which its documentation does not offer.

    pyproject.toml therefore keeps redis-py's minor version.
    """
    transport: asyncio.Transport = connection._writer.transport
    return transport


class RedisConnection:
    """For one command at a time. Connects when there is something to ask, and again after the connection was lost.

    Waits for a reply as long as its caller does. A call that is cancelled takes the connection with it, as its reply
    would be read as that of the next one.
    """

    def __init__(self, redis: RedisClient) -> None:
        """redis: says where to connect, and as whom. connects: how often it has connected."""
        self.prefix = redis.prefix
        self._pool: Any = redis.connection_pool
        self.resolver = redis.resolver
        self.connects = 0
        self._connection: Any = None
        self._replies: _Replies | None = None
        self._connecting: asyncio.Task[_Replies] | None = None

    async def execute_command(self, *command: str | bytes | int) -> Any:
        """Returns the reply. Raises StoreAway, and RedisRefused for an error that Redis replies.

        A command that was not carried out because the shard has moved to another node is repeated there, once; while
        the shard's keys are moved one by one, it is repeated for a second.
        """
        generation = self.resolver.generation
        try:
            return await self._ask(command)
        except StoreAway as error:
            return await asked_again(self.resolver, error, generation, lambda: self._ask(command))

    async def _ask(self, command: tuple[str | bytes | int, ...]) -> Any:
        replies = await self._connected()
        try:
            return await replies.ask(command)
        except asyncio.CancelledError:
            replies.abort()
            self.resolver.heard(StoreAway("no answer as long as somebody waited"))
            raise

    async def aclose(self) -> None:
        if self._connecting is not None:
            await end(self._connecting)
        await self._disconnect()

    async def _connected(self) -> "_Replies":
        """Connects. Callers that come meanwhile wait for the same attempt, and share its failure."""
        replies = self._replies
        if replies is not None and not replies.lost and replies.generation == self.resolver.generation:
            return replies
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="connect")
            self._connecting.add_done_callback(_looked_at)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> "_Replies":
        await self._disconnect()
        self._connection = self._pool.make_connection()
        with translated():
            await self._connection.connect()
        transport = transport_of(self._connection)
        if transport.is_closing():
            # It was lost before anybody could be told.
            raise StoreAway("the connection was closed")
        self.connects += 1
        self._replies = _Replies(transport, self._connection.generation)
        return self._replies

    async def _disconnect(self) -> None:
        connection, self._connection, self._replies = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)


class PipelinedConnection(RedisConnection):
    """For any number of callers at once: Redis answers in the order in which it was asked, and what they ask in one
    turn of the event loop is sent together.

    A caller that goes away leaves its reply to nobody; one that was not answered within `seconds` takes the connection
    with it, and so what others asked on it.
    """

    def __init__(self, redis: RedisClient, seconds: float = 2.0) -> None:
        super().__init__(redis)
        self._seconds = seconds

    async def _ask(self, command: tuple[str | bytes | int, ...]) -> Any:
        replies = await self._connected()
        try:
            async with asyncio.timeout(self._seconds):
                return await replies.ask_with_others(command)
        except TimeoutError:
            replies.abort()
            raise StoreAway(f"no answer within {self._seconds:g} s") from None


def _looked_at(connecting: asyncio.Task["_Replies"]) -> None:
    """Leaves a failure to nobody if all who waited have gone away; asyncio would report it as an error."""
    if not connecting.cancelled():
        connecting.exception()


class _Replies(asyncio.Protocol):
    """One connection, until it is lost. generation: of the node that it was made to."""

    def __init__(self, transport: asyncio.Transport, generation: int) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=StoreAway, replyError=refusal, notEnoughData=_INCOMPLETE)
        self._waiting = deque[asyncio.Future[Any]]()
        self._unsent: list[bytes] = []
        self.lost = False
        self.generation = generation
        transport.set_protocol(self)

    def ask(self, command: tuple[str | bytes | int, ...]) -> asyncio.Future[Any]:
        self._write(hiredis.pack_command(command))  # type: ignore[arg-type]
        return self._reply()

    def ask_with_others(self, command: tuple[str | bytes | int, ...]) -> asyncio.Future[Any]:
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(packed)
        return self._reply()

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self.lost:
            try:
                self._write(b"".join(unsent))
            except StoreAway as error:
                self.connection_lost(error)

    def _write(self, data: bytes) -> None:
        """Raises StoreAway if the other end has closed the connection, and nobody was told of that yet."""
        try:
            self._transport.write(data)
        except RuntimeError as error:
            if not is_closed_transport(error):
                raise
            raise StoreAway("the connection was closed") from error

    def _reply(self) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(reply)
        return reply

    def abort(self) -> None:
        self.lost = True
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not _INCOMPLETE:
            self._answer(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        while self._waiting:
            self._answer(StoreAway(str(error or "Redis closed the connection")))

    def _answer(self, reply: Any) -> None:
        waiting = self._waiting.popleft()
        if waiting.done():
            return
        if isinstance(reply, Exception):
            waiting.set_exception(reply)
        else:
            waiting.set_result(reply)
