"""Starts everything of `emqx-im dev` in the order it needs, and stops it in the reverse."""

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import aiohttp
from aiohttp import web

from hooks.dev import EmbeddedError, rest
from hooks.dev.acl import Acl
from hooks.dev.authorization import Authorizer
from hooks.dev.broker import EmbeddedBroker
from hooks.dev.directory import DataDirectory, Ports, Secrets
from hooks.dev.login import EmbeddedLogin
from hooks.dev.rate import bytes_rate
from hooks.dev.rules import EvaluatedRules
from hooks.dev.valkey import Valkey
from hooks.dev.webhook import WebhookCaller
from hooks.emqx.rules import files as rule_files
from hooks.http.listening import CannotListen
from hooks.metrics import Metrics
from hooks.server import logs
from hooks.server.service import Service, running_service
from hooks.settings import BrokerSettings, HttpSettings, LogSettings, Settings, UserTokenSettings, load, load_all
from hooks.tokens.jwks import JwksKeys
from store.workers import Supervisor

_LOOPBACK = "127.0.0.1"
_DRAIN_SECONDS = 10


@dataclass(frozen=True)
class DevOptions:
    """Port 0 takes a free one."""

    data_dir: Path
    http_port: int
    mqtt_port: int
    ws_port: int
    api_port: int


async def run(options: DevOptions, stop: asyncio.Event, ready: Callable[[str, Ports, str | None], None]) -> None:
    """Serves until `stop` is set. `ready` is told host, ports, and what logs in to the console once (None: it is off),
    once everything answers.

    Raises EmbeddedError or SettingsError, one line each, where something cannot start or Valkey dies.
    """
    async with contextlib.AsyncExitStack() as stack:
        directory = DataDirectory.open(options.data_dir)
        stack.callback(directory.close)
        logs.configure(load(LogSettings).log_level, readable=sys.stderr.isatty())
        host = load(HttpSettings).http_host
        mqtt = stack.enter_context(_bound("--mqtt-port", host, options.mqtt_port))
        websocket = stack.enter_context(_bound("--ws-port", host, options.ws_port))
        api = stack.enter_context(_bound("--api-port", _LOOPBACK, options.api_port))
        with _bound("--http-port", host, options.http_port) as http:
            # The service binds it itself; this tells early whether it can, and which one 0 is.
            ports = Ports(*(listener.getsockname()[1] for listener in (http, mqtt, websocket, api)))
        trusted_send = load(BrokerSettings).trusted_send
        rules = EvaluatedRules.load(files("hooks") / "rules", trusted_send=trusted_send)
        rate = bytes_rate(files("hooks") / "rules")
        acl = Acl.parse(rule_files.acl(files("hooks") / "rules", trusted_send=trusted_send))

        kept = directory.secrets
        valkey = await Valkey.start(directory.path / "valkey", kept.redis_password, directory.lock)
        stack.push_async_callback(valkey.stop)
        settings = _settings(directory, ports, valkey.url)

        # Separate pools, as in EMQX: questions that the service holds do not block what it waits for.
        calls, questions = [await stack.enter_async_context(_pool()) for _ in range(2)]
        url, token = f"http://{_reachable(host)}:{ports.http_port}", settings.hooks.hook_token[0]
        webhook = WebhookCaller(calls, url, token)
        stack.push_async_callback(webhook.drain, 0)
        login = EmbeddedLogin(kept.jwt_secret, await stack.enter_async_context(_published_keys(settings.user_tokens)))
        broker = EmbeddedBroker(rules, webhook, login, Authorizer(acl, questions, url, token), bytes_rate=rate)
        await _serve_api(stack, broker, kept, api)
        service = await _serve_service(stack, settings)
        await broker.start(mqtt, websocket)
        stack.push_async_callback(webhook.drain, _DRAIN_SECONDS)
        stack.push_async_callback(broker.stop)

        directory.announce(ports, trusted_send=trusted_send)
        code = None if service.login_code is None else await service.login_code()
        ready(_reachable(host), ports, code)
        await _stopped(stop, valkey)


def _settings(directory: DataDirectory, ports: Ports, redis_url: str) -> Settings:
    """Returns the user's settings, with what the stack itself decides."""
    kept = directory.secrets
    return load_all(
        http_port=ports.http_port,
        redis_url=redis_url,
        archive_url=f"sqlite:///{quote(str(directory.path / 'archive.sqlite3'))}",
        emqx_api_url=f"http://{_LOOPBACK}:{ports.api_port}",
        emqx_api_key=kept.emqx_api_key,
        emqx_api_secret=kept.emqx_api_secret,
        hook_token=kept.hook_token,
        admin_token=kept.admin_token,
        jwt_secret=kept.jwt_secret,
        secret=kept.secret,
        events_secret=kept.events_secret,
    )


@contextlib.asynccontextmanager
async def _published_keys(settings: UserTokenSettings) -> AsyncIterator[JwksKeys | None]:
    if settings.jwt_jwks_url is None:
        yield None
        return
    keys = JwksKeys(settings.jwt_jwks_url, settings.jwt_jwks_seconds, Metrics())
    async with Supervisor() as workers:
        workers.start("tokens", keys.run)
        yield keys


def _pool() -> aiohttp.ClientSession:
    """Opens the 64 connections that EMQX is given for the webhook, and again for the authorizer."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))


def _bound(option: str, host: str, port: int) -> socket.socket:
    """Returns a socket at the port. Raises EmbeddedError."""
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # While it listens nobody else can take the port; early connections are served once everything is up.
        listener.listen()
        return listener
    except OSError as error:
        if listener is not None:
            listener.close()
        raise EmbeddedError(_not_bound(option, host, port, error)) from None


def _not_bound(option: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{option} {port} is taken by another program"
    return f"{option} {port}: cannot listen on {host}: {error.strerror or error}"


async def _serve_api(
    stack: contextlib.AsyncExitStack, broker: EmbeddedBroker, kept: Secrets, api: socket.socket
) -> None:
    runner = web.AppRunner(rest.application(broker, kept.emqx_api_key, kept.emqx_api_secret), access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, api).start()


async def _serve_service(stack: contextlib.AsyncExitStack, settings: Settings) -> Service:
    try:
        return await stack.enter_async_context(running_service(settings))
    except CannotListen as error:
        if error.setting != "IM_HTTP_PORT":
            raise
        raise EmbeddedError(
            _not_bound("--http-port", settings.http.http_host, settings.http.http_port, error.reason)
        ) from None


async def _stopped(stop: asyncio.Event, valkey: Valkey) -> None:
    stopping, dying = asyncio.create_task(stop.wait()), asyncio.create_task(valkey.died())
    try:
        await asyncio.wait({stopping, dying}, return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            raise EmbeddedError(f"Valkey has ended with status {dying.result()}; see valkey/log in the data directory")
    finally:
        stopping.cancel()
        dying.cancel()


def _reachable(host: str) -> str:
    """Returns where this machine reaches what listens on `host`."""
    return {"0.0.0.0": _LOOPBACK, "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
