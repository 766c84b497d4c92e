"""What looks after the sessions in EMQX, in the background."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hooks.emqx.rest import Rest
from hooks.messaging.boot_sweep import BootSweep
from hooks.messaging.reconcile import Reconciler
from hooks.messaging.session_ender import SessionEnder
from hooks.messaging.session_limit import SessionLimit
from hooks.metrics import Metrics
from hooks.settings import BrokerSettings
from store.operations.boots import Boots
from store.presence.presence import Presence
from store.redis.client import RedisClient
from store.redis.lease import reconciling, sweeping


def session_works(
    settings: BrokerSettings,
    redis: RedisClient,
    rest: Rest,
    presence: Presence,
    ender: SessionEnder,
    metrics: Metrics,
    stop: asyncio.Event,
) -> dict[str, Coroutine[Any, Any, None]]:
    """By name; each runs until `stop`."""
    boots, limit = Boots(redis), SessionLimit(rest, ender, settings.user_sessions)
    reconciler = Reconciler(presence, reconciling(redis), rest, boots, metrics, limit)
    return {
        "session_ender": ender.run(stop),
        "boot_sweep": BootSweep(rest, boots, sweeping(redis), ender).run(stop),
        "reconcile": reconciler.run(settings.reconcile_seconds, stop),
    }
