"""Turns the lengths of the queues of events into metrics, of which the store knows nothing."""

from hooks.metrics import Metrics
from store.events.queues import EventQueues


class EventFigures:
    def __init__(self, queues: EventQueues, metrics: Metrics, receiver: str = "") -> None:
        """receiver: the digest of its address; "" where no events are delivered."""
        self._queues = queues
        self._metrics = metrics
        self._receiver = receiver

    async def update(self) -> None:
        """Reads the figures, also of what waits while no back end is given. Raises StoreAway."""
        counts = await self._queues.counts()
        self._metrics.events_waiting.set(counts.waiting)
        self._metrics.events_bytes.set(counts.bytes)
        self._metrics.events_lag.set(counts.lag_seconds())
        self._metrics.events_stopped.set(bool(self._receiver) and await self._queues.stopped(self._receiver))
        self._metrics.events_lost.labels("full").set(sum(counts.dropped.values()))
        self._metrics.events_lost.labels("redis").set(counts.lost)
