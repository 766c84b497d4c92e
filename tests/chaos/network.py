"""The network of a deployment, in a process of its own: a port in front of each server, which does what it is told to.

It reads orders from its standard input, a line of JSON each, `{"link": …, "mode": …, "seconds": …}`, and answers each
with a line when it holds.

    pass      carries everything
    cut       ends all connections by RST, and refuses new ones
    delay     carries everything `seconds` later
    stall     carries nothing, and keeps all connections; what was sent arrives afterwards
    forget    carries nothing more of the connections that there are, and never ends them, as a NAT does that has
              forgotten them; new ones pass
    break     ends a connection by RST in the middle of an answer, each that gives one
    storm     answers HTTP requests with 503, without asking anybody

`{"link": …, "refused": [ADDRESS, …]}` ends by RST what comes from these addresses, and refuses it from then on.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import uvloop

MODES = ("pass", "cut", "delay", "stall", "forget", "break", "storm")

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST, and what is on its way is gone."""
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"


class Link:
    """A port, what is behind it, and how it carries."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self.target = target
        self.mode = "pass"
        self.seconds = 0.0
        self.refused: frozenset[str] = frozenset()
        self.sides: set[Side] = set()

    def order(self, mode: str, seconds: float) -> None:
        self.mode, self.seconds = ("pass" if mode == "forget" else mode), seconds
        for side in list(self.sides):
            if mode == "cut":
                side.reset()
            elif mode == "forget":
                side.forgotten = True
            elif mode != "stall":
                side.go_on()

    def refuse(self, addresses: Iterable[str]) -> None:
        self.refused = frozenset(addresses)
        for side in list(self.sides):
            if side.address in self.refused:
                side.reset()
                if side.other is not None:
                    side.other.reset()


class Side(asyncio.Protocol):
    """One end of a carried connection; `other` is the end to which it hands what arrives here."""

    def __init__(self, link: Link, *, from_client: bool) -> None:
        self._link = link
        self._from_client = from_client
        self._transport: asyncio.Transport | None = None
        self._held: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.other: Side | None = None
        self.forgotten = False
        self.address = ""
        """From where the client speaks, if this is its side."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        if self._from_client:
            self.address = self._transport.get_extra_info("peername")[0]
            if self._link.mode == "cut" or self.address in self._link.refused:
                self.reset()
                return
            self._link.sides.add(self)
            self._transport.pause_reading()
            asyncio.get_running_loop().create_task(self._connect())
        else:
            self._link.sides.add(self)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, other = await loop.create_connection(
                lambda: Side(self._link, from_client=False), "127.0.0.1", self._link.target
            )
        except OSError:
            self.reset()
            return
        self.other, other.other = other, self
        if self._transport is None or self._transport.is_closing():
            other.reset()
            return
        self._transport.resume_reading()
        # Either side may have spoken already.
        other.go_on()
        self.go_on()

    def data_received(self, data: bytes) -> None:
        if self.forgotten:
            return
        if self._from_client and self._link.mode == "storm":
            self._answer_away(data)
        elif not self._from_client and self._link.mode == "break" and self.other is not None and random.random() < 0.3:
            self.other.write(data[: random.randrange(len(data))])
            self.other.reset()
            self.reset()
        else:
            self._held.append((asyncio.get_running_loop().time() + self._link.seconds, data))
            self.go_on()

    def _answer_away(self, data: bytes) -> None:
        """Answers once for each request that begins in this piece."""
        for _ in range(data.count(b" HTTP/1.1\r\n")):
            self.write(_UNAVAILABLE)

    def go_on(self) -> None:
        """Hands over what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._held and self._link.mode != "stall" and self.other is not None and not self.forgotten:
            due, data = self._held[0]
            if self._link.mode == "delay" and due > loop.time():
                self._timer = loop.call_at(due, self.go_on)
                return
            self._held.popleft()
            self.other.write(data)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def reset(self) -> None:
        transport = self._transport
        if transport is None:
            return
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def pause_writing(self) -> None:
        if self.other is not None and self.other._transport is not None:
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other._transport is not None:
            self.other._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.sides.discard(self)
        other, self._transport = self.other, None
        if other is None or other._transport is None or self.forgotten:
            return
        if error is not None:
            other.reset()
        else:
            # What is still held is carried before the end of the connection is.
            for _, data in self._held:
                other.write(data)
            self._held.clear()
            other._transport.close()


async def _serve(links: dict[str, Link]) -> None:
    loop = asyncio.get_running_loop()
    for link in links.values():
        await loop.create_server(lambda link=link: Side(link, from_client=True), "127.0.0.1", link.port)  # type: ignore[misc]
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    while line := await reader.readline():
        order: dict[str, Any] = json.loads(line)
        link = links[order["link"]]
        if "refused" in order:
            link.refuse(order["refused"])
        else:
            link.order(order["mode"], order.get("seconds", 0.0))
        sys.stdout.write("{}\n")
        sys.stdout.flush()


class Network:
    """The process, as the campaign sees it."""

    def __init__(self, links: dict[str, tuple[int, int]]) -> None:
        self._links = links
        self._process: asyncio.subprocess.Process | None = None
        self._ordering = asyncio.Lock()

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        arguments = ["-m", "tests.chaos.network", json.dumps(self._links)]
        self._process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
        await self._answered()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def order(self, link: str, mode: str, seconds: float = 0.0) -> None:
        """Returns once it holds."""
        await self._order({"link": link, "mode": mode, "seconds": seconds})

    async def refuse(self, link: str, addresses: Iterable[str]) -> None:
        """Returns once nothing comes from these addresses, and everything from others. They stay in any mode."""
        await self._order({"link": link, "refused": sorted(addresses)})

    async def _order(self, order: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._ordering:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._answered()

    async def _answered(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError("the network's process ended")

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


if __name__ == "__main__":
    uvloop.run(_serve({name: Link(*ports) for name, ports in json.loads(sys.argv[1]).items()}))
