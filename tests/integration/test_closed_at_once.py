"""A server, or a load balancer before it, that ends connections as soon as they are open: it is away, not broken."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from store.archive.mysql.connections import MySQLConnections
from store.errors import ArchiveAway, StoreAway
from store.redis.connection import connect
from store.redis.pipelined import PipelinedConnection, RedisConnection

TRIES = 30

_RESET = struct.pack("ii", 1, 0)


@asynccontextmanager
async def closing_at_once() -> AsyncIterator[int]:
    """Runs a server that accepts and resets; gives its port. It is a thread, so that it is faster than its clients."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(asyncio.to_thread(serve))
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            await serving


async def command(port: int) -> None:
    async with connect(f"redis://127.0.0.1:{port}/0") as redis:
        await redis.execute_command("PING")


async def pipeline(port: int) -> None:
    async with connect(f"redis://127.0.0.1:{port}/0") as redis:
        asking = redis.pipeline()
        asking.get("anything")
        await asking.execute()


async def single(port: int) -> None:
    async with connect(f"redis://127.0.0.1:{port}/5") as redis:
        await RedisConnection(redis).execute_command("PING")


async def pipelined(port: int) -> None:
    async with connect(f"redis://127.0.0.1:{port}/5") as redis:
        await PipelinedConnection(redis).execute_command("PING")


async def mysql(port: int) -> None:
    connections = MySQLConnections("127.0.0.1", port, "im", b"", "im")
    async with connections.cursor() as cursor:
        await cursor.execute("SELECT 1")


@pytest.mark.parametrize(
    ("ask", "away"),
    [(command, StoreAway), (pipeline, StoreAway), (single, StoreAway), (pipelined, StoreAway), (mysql, ArchiveAway)],
)
def test_it_is_away(ask: Callable[[int], Awaitable[None]], away: type[Exception]) -> None:
    """uvloop, as the service runs on it, has errors for this that the drivers do not expect."""

    async def all_tries() -> None:
        async with closing_at_once() as port:
            for _ in range(TRIES):
                with pytest.raises(away):
                    await ask(port)

    uvloop.run(all_tries())
