"""Takes connections off listening sockets, many at once.

uvloop accepts one connection in each turn of its loop. While existing connections send, a turn lasts as long as the
work for all of them, and new connections wait, such as phones that pull. With 64 connections that post without end,
2,200 new ones were accepted a second; this way it is 4,400.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import structlog

from hooks.http.crowd import Crowd

EVERYWHERE = "::"
_BACKLOG = 1024
_KERNEL_BYTES = 65_536
"""Bytes of an unread answer in the kernel, which by itself would take megabytes that nothing here counts.

The kernel doubles this; that is a megabyte a second for a client at 100 milliseconds' distance.
"""
_AT_ONCE = 64
"""Connections accepted in one go; then the existing ones have their turn."""
_PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


def address_of(host: str) -> str:
    """Returns the host, but for `::` where there is no IPv6: that means all addresses there are, of IPv4 too."""
    return "0.0.0.0" if host == EVERYWHERE and not socket.has_dualstack_ipv6() else host  # noqa: S104  (it was asked for)


async def accept(
    stack: contextlib.AsyncExitStack,
    host: str,
    port: int,
    protocol: Callable[[], asyncio.BaseProtocol],
    crowd: Crowd | None = None,
    *,
    shared: bool,
) -> int:
    """Makes a protocol of each connection to any address of the host, until the stack ends. Returns the port.

    crowd: decides whether there is room for one more. shared: other processes listen there too. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address_of(host), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners = []
    for family, _, _, _, address in dict.fromkeys(found):
        listener = socket.create_server(
            address, family=family, backlog=_BACKLOG, reuse_port=shared, dualstack_ipv6=address[0] == EVERYWHERE
        )
        stack.enter_context(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        listener.setblocking(False)
        listeners.append(listener)
        accepting = _Accepting(loop, listener, protocol, crowd)
        accepting.begin()
        stack.callback(accepting.end)
    bound: int = listeners[0].getsockname()[1]
    return bound


class _Accepting:
    """One listening socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        crowd: Crowd | None,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._protocol = protocol
        self._crowd = crowd
        self._opening = set[asyncio.Task[object]]()
        self._pause: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._loop.add_reader(self._listener, self._accept)

    def end(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._crowd is not None and not self._crowd.has_room():
                self._loop.remove_reader(self._listener)
                self._crowd.call_when_room(self.begin)
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            connection.setblocking(False)
            if self._crowd is not None:
                self._crowd.accepted()
            opening = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opened)

    def _opened(self, opening: "asyncio.Task[object]") -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and (error := opening.exception()) is not None:
            if self._crowd is not None:
                self._crowd.failed()
            log.error("connection_failed", error=str(error))

    def _rest(self, error: OSError) -> None:
        """Lets new connections wait: no file or memory is left for them, and an immediate retry would fail again."""
        log.error("accept_failed", error=error.strerror, retry_seconds=_PAUSE_SECONDS)
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self.begin)
