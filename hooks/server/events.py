"""Delivers events to the operator's back end, where one is given."""

import contextlib
from dataclasses import dataclass

from hooks.events.delivery import EventDelivery
from hooks.events.receiver import Receiver
from hooks.metrics import Metrics
from hooks.metrics.events import EventFigures
from hooks.settings import EventSettings
from store.events.queues import EventQueues
from store.redis.client import RedisClient
from store.redis.lease import delivering
from store.redis.shards import Shards
from store.workers import Run


@dataclass(frozen=True)
class Events:
    """workers: by name."""

    figures: EventFigures
    workers: dict[str, Run]


def make_events(
    settings: EventSettings,
    shards: Shards[RedisClient],
    replicas: int,
    metrics: Metrics,
    stack: contextlib.AsyncExitStack,
) -> Events:
    """Makes what delivers them. replicas: that must have an event before it is delivered."""
    queues = EventQueues(shards)
    if settings.events_url is None:
        return Events(EventFigures(queues, metrics), {})
    receiver = Receiver(settings.events_url, settings.events_secret)
    stack.push_async_callback(receiver.close)
    workers: dict[str, Run] = {}
    for shard, redis in enumerate(shards):
        own = EventQueues(redis, shard, replicas=replicas)
        stack.push_async_callback(own.aclose)
        delivery = EventDelivery(own, delivering(redis), receiver, metrics)
        name = f"events_of_shard_{shard}" if shard else "events"
        workers |= {f"{name}_lease": delivery.keep_lease, name: delivery.run}
    return Events(EventFigures(queues, metrics, receiver.digest), workers)
