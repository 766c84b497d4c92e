"""Makes the workers that look after the sessions in EMQX."""

from functools import partial

from hooks.emqx.rest import Rest
from hooks.messaging.banning import Banning
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
from store.workers import Run


def session_works(
    settings: BrokerSettings,
    redis: RedisClient,
    rest: Rest,
    presence: Presence,
    ender: SessionEnder,
    banning: Banning,
    metrics: Metrics,
) -> dict[str, Run]:
    """Returns workers by name."""
    boots, limit = Boots(redis), SessionLimit(rest, ender, settings.user_sessions)
    reconciler = Reconciler(presence, reconciling(redis), rest, boots, metrics, limit, banning)
    return {
        "session_ender": ender.run,
        "banning": banning.run,
        "boot_sweep": BootSweep(rest, boots, sweeping(redis), ender).run,
        "reconcile": partial(reconciler.run, settings.reconcile_seconds),
    }
