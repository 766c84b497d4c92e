"""Listens for HTTP: webhook requests are answered in front, everything else by aiohttp."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial

from aiohttp import web

from hooks.http.accepting import accept
from hooks.http.aiohttp_connection import AiohttpConnection, Bounds
from hooks.http.connection import Heads, HookConnection
from hooks.http.crowd import Crowd
from hooks.http.origins import Origins
from hooks.metrics import Metrics
from hooks.setting_sources import SettingsError
from hooks.webhook.dispatcher import QUESTION_SECONDS, Webhook
from store.cancellation import end


def operators_bounds(request_seconds: float, write_seconds: float) -> Bounds:
    """Returns the bounds for EMQX and operators, and for everybody where there is only one port.

    Connections are the broker's to close: one that the server closes first costs a retry. `/admin/presence` takes
    10,000 users in its first line.
    """
    return Bounds(256 * 1024, 320 * 1024, 3600, request_seconds, False, write_seconds)


def public_bounds(request_seconds: float, write_seconds: float) -> Bounds:
    """Returns the bounds for anybody.

    A proxy keeps connections for 75 seconds, as waiting pulls need, and has to be the one that closes them.
    """
    return Bounds(8 * 1024, 32 * 1024, 120, request_seconds, True, write_seconds)


class CannotListen(SettingsError):
    """The port of `setting` cannot be opened, because of `reason`."""

    def __init__(self, setting: str, reason: OSError) -> None:
        super().__init__(f"IM_HTTP_HOST, {setting}: {reason.strerror or reason}")
        self.setting = setting
        self.reason = reason


async def listening(
    stack: contextlib.AsyncExitStack,
    host: str,
    setting: str,
    port: int,
    app: web.Application,
    webhook: Webhook | None = None,
    *,
    origins: Origins,
    metrics: Metrics,
    bounds: Bounds,
    crowd: Crowd | None = None,
    shared: bool,
) -> int:
    """Serves the application, with webhook requests in front of it, until the stack ends. Returns the port.

    setting: names the port. crowd: what its connections count in, unless they are EMQX's. shared: other processes
    listen on it too. Raises CannotListen.
    """
    runner = web.AppRunner(app, shutdown_timeout=5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    others = partial(AiohttpConnection, runner.server, origins, metrics, bounds)
    protocol: Callable[[], asyncio.BaseProtocol] = partial(others, crowd)
    if webhook is not None:
        heads, connections = Heads(webhook), set[HookConnection]()
        protocol = partial(HookConnection, webhook, heads, others, connections, metrics, crowd, bounds.request_seconds)
        stack.push_async_callback(_close, connections)
    try:
        return await accept(stack, host, port, protocol, crowd, shared=shared)
    except OSError as error:
        raise CannotListen(setting, error) from None


async def _close(connections: set[HookConnection]) -> None:
    """Closes connections; those that wait for an answer get it first, because nobody decides a question that is cut
    off."""
    closing = [asyncio.create_task(connection.close()) for connection in connections]
    if closing:
        _, late = await asyncio.wait(closing, timeout=QUESTION_SECONDS)
        for task in late:
            await end(task)
