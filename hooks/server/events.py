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
from store.workers import Run


@dataclass(frozen=True)
class Events:
    """workers: by name."""

    figures: EventFigures
    workers: dict[str, Run]


def make_events(
    settings: EventSettings, redis: RedisClient, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Events:
    queues = EventQueues(redis)
    if settings.events_url is None:
        return Events(EventFigures(queues, metrics), {})
    receiver = Receiver(settings.events_url, settings.events_secret)
    stack.push_async_callback(receiver.close)
    delivery = EventDelivery(queues, delivering(redis), receiver, metrics)
    figures = EventFigures(queues, metrics, receiver.digest)
    return Events(figures, {"events_lease": delivery.keep_lease, "events": delivery.run})
