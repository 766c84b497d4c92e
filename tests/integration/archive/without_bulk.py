"""MariaDB as MySQL 8 looks to the driver: a relay that hides that the server takes many rows for one statement."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.stream_server import pump, stream_server

_BEFORE_VERSION = 5
_BEFORE_CAPABILITIES = 28
"""Bytes between the end of the version and MariaDB's own capabilities, of which the greeting has four."""


@asynccontextmanager
async def without_bulk(port: int) -> AsyncIterator[int]:
    """Yields the relay's own port."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_hidden(await from_server.read(4096)))
            await asyncio.gather(pump(reader, to_server), pump(from_server, writer))
        finally:
            to_server.close()

    async with stream_server(relay) as own_port:
        yield own_port


def _hidden(greeting: bytes) -> bytes:
    begin = greeting.index(b"\0", _BEFORE_VERSION) + _BEFORE_CAPABILITIES
    assert greeting[begin : begin + 4] != bytes(4), "the server has no capabilities to hide"
    return greeting[:begin] + bytes(4) + greeting[begin + 4 :]
