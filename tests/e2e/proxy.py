"""A network between clients and the stack that is slow, cuts connections, and is away at times."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.servers import free_port
from tests.stream_server import stream_server

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST, and what is on its way is gone."""


class Proxy:
    """One port in front of another. Pieces are delayed at random, so that what two connections carry changes places."""

    def __init__(self, target: int, dice: random.Random) -> None:
        self.port = free_port()
        self.cuts = 0
        self.up = True
        self.longest_delay = 0.0
        """Seconds that a piece may take, at random."""
        self._target = target
        self._dice = dice
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Ends all connections at once: half of them by RST."""
        for writer in list(self._writers):
            self.cuts += 1
            if self._dice.random() < 0.5:
                writer.get_extra_info("socket").setsockopt(1, 13, _RESET)
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.up:
            writer.transport.abort()
            return
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, inner_writer}
        try:
            await asyncio.gather(self._carry(reader, inner_writer), self._carry(inner_reader, writer))
        finally:
            for each in (writer, inner_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(4096):
            if self.longest_delay:
                await asyncio.sleep(self._dice.uniform(0, self.longest_delay))
            writer.write(piece)
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def proxied(target: int, dice: random.Random) -> AsyncIterator[Proxy]:
    proxy = Proxy(target, dice)
    async with stream_server(proxy.serve, proxy.port):
        yield proxy
