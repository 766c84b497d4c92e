"""A server of a test's own, with which its connections end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from store.cancellation import end
from tests.servers import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def stream_server(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    """Yields the port. Each connection is closed when `serve` returns or raises OSError, and reset at the end."""
    serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
    is_open = True

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # The peer has gone.
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # One that was being accepted when the server was closed.
        if not is_open:
            writer.transport.abort()
            return
        task = asyncio.create_task(one(reader, writer))
        serving[task] = writer
        task.add_done_callback(serving.pop)

    port = port or free_port()
    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield port
    finally:
        is_open = False
        server.close()
        await server.wait_closed()
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*map(end, list(serving)))


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Hands on what comes until one of the two ends, and then ends the other."""
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()
