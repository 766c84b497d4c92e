"""Starts the parts of the service, and stops them without losing what was accepted."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.events.receiver import ReceiverAway
from hooks.http.crowd import Crowd
from hooks.http.listening import listening, operators_bounds, public_bounds
from hooks.messaging.outgoing import Outgoing
from hooks.metrics import Metrics
from hooks.server.answering import make_parts
from hooks.server.application import Parts
from hooks.server.connections import make_connections
from hooks.server.events import make_events
from hooks.server.messaging import make_messaging
from hooks.server.storing import make_store
from hooks.setting_sources import SettingsError
from hooks.settings import Settings, unknown_names
from hooks.tokens.bearer import UserTokens
from store.errors import StoreError
from store.workers import Supervisor

_EXPECTED = (StoreError, BrokerAway, BrokerRefused, ReceiverAway)
"""Errors that workers are begun again after without a traceback in the log."""

log = structlog.get_logger(__name__)


@dataclass
class Service:
    """A running service: where it listens, and what logs an operator in once (None: the console is off)."""

    http_port: int
    public_port: int | None
    login_code: Callable[[], Awaitable[str]] | None


@contextlib.asynccontextmanager
async def running_service(settings: Settings, *, shared: bool = False) -> AsyncIterator[Service]:
    """Serves until the block ends; then finishes accepted requests, and answers later ones with 503.

    `shared`: other processes serve on the same ports.

    Raises CannotListen if a port is taken, and SettingsError if the store has another number of shards.
    """
    for name in unknown_names():
        log.warning("unknown_setting", name=name)
    async with contextlib.AsyncExitStack() as stack:
        parts = await _build(settings, stack)
        listen = partial(
            listening,
            stack,
            settings.http.http_host,
            origins=parts.origins,
            metrics=parts.metrics,
            shared=shared,
        )
        seconds = settings.http.request_seconds, settings.http.write_seconds
        strangers, public_port = Crowd(settings.http.public_connections, parts.metrics), None
        http_port = await listen(
            *("IM_HTTP_PORT", settings.http.http_port, parts.application(), parts.webhook),
            bounds=operators_bounds(*seconds),
            crowd=strangers if settings.http.public_port is None else None,
        )
        if settings.http.public_port is not None:
            public_port = await listen(
                *("IM_PUBLIC_PORT", settings.http.public_port, parts.public_application()),
                bounds=public_bounds(*seconds),
                crowd=strangers,
            )
        if settings.broker.emqx_api_url is None:
            log.warning("control_messages_off", setting="IM_EMQX_API_URL", reason="not set")
        service = Service(http_port, public_port, parts.console.login_code)
        log.info("serving", http_port=service.http_port, public_port=public_port)
        yield service
        log.info("draining")
        await parts.drain()


async def _build(settings: Settings, stack: contextlib.AsyncExitStack) -> Parts:
    """Connects the parts, step by step; the stack takes them apart again, in reverse order."""
    metrics = Metrics()
    connections = make_connections(settings, metrics, stack)
    outgoing = Outgoing(connections.rest, settings.control.secret, metrics)
    # Started before the store and stopped after it, so that the last of what was stored is told, too.
    publishing = await stack.enter_async_context(Supervisor(expected=_EXPECTED))
    publishing.start("outgoing", outgoing.run)
    store = await make_store(settings, connections, metrics, stack)
    messaging = make_messaging(settings, connections, store, outgoing, metrics)
    events = make_events(settings.events, connections.shards, settings.redis.redis_wait, metrics, stack)
    user_tokens = UserTokens(
        settings.user_tokens.jwt_secret,
        settings.user_tokens.jwt_jwks_url,
        metrics,
        jwks_seconds=settings.user_tokens.jwt_jwks_seconds,
    )

    workers = await stack.enter_async_context(Supervisor(expected=_EXPECTED))
    workers.start("store", store.keeper.run)
    await store.keeper.looked.wait()
    if store.keeper.differs is not None:
        raise SettingsError(f"IM_SHARDS: {store.keeper.differs}")
    await messaging.acknowledgements.step()
    for name, run in {"tokens": user_tokens.run, **store.workers, **messaging.workers, **events.workers}.items():
        workers.start(name, run)
    return make_parts(settings, store, messaging, user_tokens, workers, events.figures, metrics)
