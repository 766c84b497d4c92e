"""Event loops that a test has to leave as it found them."""

import asyncio


class TidyLoop(asyncio.SelectorEventLoop):
    """Fails the test that leaves a connection, a listener or a pipe open.

    Without it the garbage collector tells of them, some time later, in the middle of another test."""

    def close(self) -> None:
        if not self.is_closed():
            # What was closed last is given up in the next round.
            self.run_until_complete(asyncio.sleep(0))
            own = self._ssock.fileno()  # type: ignore[attr-defined]
            left = [key.fileobj for key in self._selector.get_map().values() if key.fd != own]  # type: ignore[attr-defined]
            super().close()
            assert not left, f"the test left open: {left}"
