"""`emqx-im reconcile`: presence against EMQX's list of clients, by hand or by a timer outside."""

import sys

import typer
import uvloop
from rich.console import Console

from hooks.cli.archive import NOT_NEEDED
from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.messaging.reconcile import Reconciled, Reconciler
from hooks.metrics import Metrics
from hooks.server import logs
from hooks.settings import Settings, SettingsError, load
from store.errors import StoreError
from store.operations.boots import Boots
from store.presence.presence import Presence
from store.redis.connection import connect
from store.redis.lease import reconciling


def reconcile() -> None:
    """Compare presence with EMQX's list of clients: add missing devices, remove those that a dead node left behind."""
    settings = load(**NOT_NEEDED, archive_url="sqlite:///-")
    if settings.emqx_api_url is None:
        raise SettingsError("IM_EMQX_API_URL: needed, EMQX is asked who is connected")
    logs.configure("error")
    try:
        done = uvloop.run(_reconcile(settings, settings.emqx_api_url))
    except (BrokerAway, BrokerRefused) as error:
        sys.exit(f"emqx-im: IM_EMQX_API_URL: {error}")
    except StoreError as error:
        sys.exit(f"emqx-im: IM_REDIS_URL: {error}")
    if done is None:
        sys.exit("emqx-im: another process is reconciling")
    typer.echo(_describe(done))


async def _reconcile(settings: Settings, url: str) -> Reconciled | None:
    redis, metrics = connect(settings.redis_url, timeout=30), Metrics()
    rest = Rest(url, settings.emqx_api_key, settings.emqx_api_secret, metrics)
    try:
        with Console(stderr=True).status("reconciling") as status:
            reconciler = Reconciler(Presence(redis), reconciling(redis), rest, Boots(redis), metrics)
            return await reconciler.reconcile(lambda so_far: status.update(f"reconciling: {_describe(so_far)}"))
    finally:
        await rest.close()
        await redis.aclose()


def _describe(done: Reconciled) -> str:
    return f"{done.listed} devices connected, {done.missing} were missing, {done.stale} were there no more"
