"""The two ways by which a client's bytes arrive: a TCP stream, or the binary messages of a WebSocket."""

import asyncio
from typing import Protocol

from aiohttp import WSMsgType, web

_FLUSH_SECONDS = 1


class Transport(Protocol):
    """`peer` and `local` are the two ends as (host, port); `received` is how many bytes were read."""

    peer: tuple[str, int]
    local: tuple[str, int]
    received: int

    async def read(self, n: int = -1) -> bytes:
        """Returns exactly `n` bytes; raises IncompleteReadError or OSError when the peer is gone."""

    async def send(self, data: bytes) -> None:
        """Raises OSError when the peer is gone."""

    async def close(self) -> None:
        """Sends what is waiting, for a second at most."""


class TcpTransport:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received = 0
        self._reader = reader
        self._writer = writer
        self.peer = writer.get_extra_info("peername")[:2]
        self.local = writer.get_extra_info("sockname")[:2]

    async def read(self, n: int = -1) -> bytes:
        data = await self._reader.readexactly(n)
        self.received += len(data)
        return data

    async def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("closed")
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()


class WebSocketTransport:
    """MQTT packets may be split over messages, or share one."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self.received = 0
        self._buffer = bytearray()
        assert request.transport is not None
        self.peer = request.transport.get_extra_info("peername")[:2]
        self.local = request.transport.get_extra_info("sockname")[:2]

    async def read(self, n: int = -1) -> bytes:
        while len(self._buffer) < n:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                raise asyncio.IncompleteReadError(bytes(self._buffer), n)
            self._buffer += message.data
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        self.received += len(data)
        return data

    async def send(self, data: bytes) -> None:
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._socket.close()
        except OSError:
            pass
