"""Event loops that a test has to leave as it found them."""

import asyncio
from typing import Any
from weakref import WeakSet


class TidyLoop(asyncio.SelectorEventLoop):
    """Fails the test that leaves a connection, a listener or a pipe open.

    Without it the garbage collector tells of them, some time later, in the middle of another test."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: WeakSet[asyncio.Transport] = WeakSet()

    def _make_socket_transport(self, *arguments: Any, **named: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_socket_transport(*arguments, **named)  # type: ignore[misc]
        self._connections.add(transport)
        return transport

    def close(self) -> None:
        if self.is_closed():
            return
        # What was closed last is given up in the next round.
        self.run_until_complete(asyncio.sleep(0))
        own = self._ssock.fileno()  # type: ignore[attr-defined]
        left = [str(key.data) for key in self._selector.get_map().values() if key.fd != own]  # type: ignore[attr-defined]
        # Nothing is waited for on a connection whose peer has ended it.
        left += [str(connection) for connection in self._connections if not connection.is_closing()]
        super().close()
        assert not left, f"the test left open: {left}"
