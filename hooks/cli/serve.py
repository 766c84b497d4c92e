"""Implements `emqx-im serve`: the service with a real EMQX, Redis and MySQL."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import tempfile

import structlog
import typer
import uvloop
from prometheus_client.multiprocess import mark_process_dead

from hooks.http.accepting import address_of
from hooks.server import logs
from hooks.server.process import die_with_parent
from hooks.server.service import running_service
from hooks.setting_sources import SettingsError
from hooks.settings import Settings, load_all

_SHARED = "EMQX_IM_WORKER"
"""Set in worker processes: they listen on ports that their parent holds."""

_RESTART_SECONDS = 1.0

log = structlog.get_logger(__name__)


def serve(workers: int = typer.Option(1, min=1, max=64, help="Number of processes that share the port.")) -> None:
    """Serve webhooks and pulls until SIGTERM, then finish what was accepted."""
    settings = load_all()
    logs.configure(settings.logs.log_level)
    if _SHARED in os.environ:
        die_with_parent(signal.SIGTERM)
    if workers == 1:
        uvloop.run(_serve(settings, shared=_SHARED in os.environ))
    else:
        asyncio.run(_supervise(settings, workers))


async def _serve(settings: Settings, *, shared: bool) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with running_service(settings, shared=shared):
        # Objects made so far stay, so the collector need not visit them: five percent of a message's time in Python.
        gc.freeze()
        gc.set_threshold(10_000)
        await stop.wait()


async def _supervise(settings: Settings, workers: int) -> None:
    """Runs worker processes on one port; one that dies is replaced, and all of them stop together."""
    with contextlib.ExitStack() as stack:
        held = _hold(stack, settings.http.http_host, settings.http.http_port, "IM_HTTP_PORT")
        environment = {**os.environ, _SHARED: "1", "IM_HTTP_PORT": str(held)}
        if settings.http.public_port is not None:
            public = _hold(stack, settings.http.http_host, settings.http.public_port, "IM_PUBLIC_PORT")
            environment["IM_PUBLIC_PORT"] = str(public)
        # Each worker counts in its own files here; the one that is asked for /metrics adds them up.
        counts = environment["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        stop = asyncio.Event()
        _stop_on_signals(stop)
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(_keep_worker(environment, counts, stop))


async def _keep_worker(environment: dict[str, str], counts: str, stop: asyncio.Event) -> None:
    stopped = asyncio.create_task(stop.wait())
    while not stop.is_set():
        worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "hooks.cli", "serve", env=environment)
        ended = asyncio.create_task(worker.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            log.error("worker_died", pid=worker.pid, status=worker.returncode)
            mark_process_dead(worker.pid, counts)  # type: ignore[no-untyped-call]
            await asyncio.wait([stopped], timeout=_RESTART_SECONDS)
        elif worker.returncode is None:
            worker.terminate()
            await ended


def _stop_on_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _hold(stack: contextlib.ExitStack, host: str, port: int, setting: str) -> int:
    """Reserves the port for the workers: nobody else listens there, and nobody else can begin to. Returns the port."""
    try:
        family, _, _, _, address = socket.getaddrinfo(address_of(host), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
        kept = stack.enter_context(socket.socket(family))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(address)
    except OSError as error:
        raise SettingsError(f"IM_HTTP_HOST, {setting}: {error.strerror or error}") from None
    held: int = kept.getsockname()[1]
    return held
