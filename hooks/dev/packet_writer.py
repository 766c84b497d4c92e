"""Sends packets to one client in their order, without waiting for it, and within bounds."""

import asyncio
from collections.abc import Callable

from hooks.dev.transport import Transport

SEND_SECONDS = 15
"""A client that reads nothing for this long is gone."""
_MAX_WAITING_QOS_0 = 1000
_MAX_UNSENT_BYTES_QOS_0 = 8 * 1024 * 1024
_MAX_WAITING = 10_000


class PacketWriter:
    """end: called with the reason why the connection has to end."""

    def __init__(self, transport: Transport, end: Callable[[str], None]) -> None:
        self._transport = transport
        self._end = end
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.unsent_bytes = 0

    def send(self, data: bytes) -> None:
        if self._waiting.qsize() >= _MAX_WAITING:
            self._end("mailbox_overflow")
        else:
            self.unsent_bytes += len(data)
            self._waiting.put_nowait(data)

    def send_if_room(self, data: bytes) -> bool:
        """Sends a message with QoS 0; returns False if too much waits already."""
        room = self._waiting.qsize() < _MAX_WAITING_QOS_0 and self.unsent_bytes < _MAX_UNSENT_BYTES_QOS_0
        if room:
            self.send(data)
        return room

    def close(self) -> None:
        """Lets `write` return after what waits."""
        self._waiting.put_nowait(None)

    async def write(self) -> None:
        """Writes packets until `close` was called."""
        try:
            while (data := await self._waiting.get()) is not None:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._transport.send(data)
                self.unsent_bytes -= len(data)
        except TimeoutError:
            self._end("enotconn")
        except OSError:
            self._end("tcp_closed")
