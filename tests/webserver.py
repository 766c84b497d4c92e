"""Serves an application on loopback for as long as a test needs it."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def serving(
    application: web.Application, at: socket.socket | int = 0, *, shutdown_seconds: float = 1
) -> AsyncIterator[str]:
    """Yields the server's address, without a path.

    at: a bound socket, or a port; 0 takes a free one. shutdown_seconds: how long unanswered requests are waited for.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=shutdown_seconds)
    await runner.setup()
    try:
        if isinstance(at, socket.socket):
            await web.SockSite(runner, at).start()
            port = at.getsockname()[1]
        else:
            site = web.TCPSite(runner, "127.0.0.1", at)
            await site.start()
            port = site.port
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
