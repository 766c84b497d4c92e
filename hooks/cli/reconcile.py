"""Implements `emqx-im reconcile`: compares presence with EMQX's list of clients, by hand or from a timer."""

import sys

import typer
import uvloop
from rich.console import Console

from hooks.cli.failures import named_by_setting
from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.messaging.reconcile import Reconciled, Reconciler
from hooks.metrics import Metrics
from hooks.server import logs
from hooks.setting_sources import SettingsError
from hooks.settings import BrokerSettings, EventSettings, RedisSettings, load
from store.operations.boots import Boots
from store.presence.presence import Presence
from store.redis.lease import reconciling
from store.redis.shards import connected


def reconcile() -> None:
    """Compare presence with EMQX's list of clients: add missing devices, remove those that a dead node left behind."""
    redis, broker = load(RedisSettings), load(BrokerSettings)
    if broker.emqx_api_url is None:
        raise SettingsError("IM_EMQX_API_URL: required, to ask EMQX which clients are connected")
    logs.configure("error")
    try:
        with named_by_setting():
            done = uvloop.run(_reconcile(redis, broker.emqx_api_url, broker))
    except (BrokerAway, BrokerRefused) as error:
        sys.exit(f"emqx-im: IM_EMQX_API_URL: {error}")
    if done is None:
        sys.exit("emqx-im: another process is reconciling")
    typer.echo(_describe(done))


async def _reconcile(redis: RedisSettings, url: str, broker: BrokerSettings) -> Reconciled | None:
    metrics = Metrics()
    rest = Rest(url, broker.emqx_api_key, broker.emqx_api_secret, metrics)
    try:
        async with connected(redis.redis_url, redis.shards, timeout=30) as shards:
            presence, home = Presence(shards, events=load(EventSettings).wanted_of_each(redis.shards)), shards.home
            with Console(stderr=True).status("reconciling") as status:
                reconciler = Reconciler(presence, reconciling(home), rest, Boots(home), metrics)
                return await reconciler.reconcile(lambda so_far: status.update(f"reconciling: {_describe(so_far)}"))
    finally:
        await rest.close()


def _describe(done: Reconciled) -> str:
    return f"{done.listed} devices are connected; {done.missing} were missing and {done.stale} stale in presence"
