"""Brings what this process has counted to the last minutes that the console shows."""

from prometheus_client import Counter, Histogram

from hooks.metrics import Metrics
from store.archive.archiver import Archiver
from store.archive.outbox import Outbox
from store.events.queues import EventQueues
from store.operations.minutes import Minutes
from store.presence.presence import Presence
from store.workers import Worker

_SECONDS = 5.0


class MinuteCounts:
    def __init__(
        self,
        metrics: Metrics,
        minutes: Minutes,
        presence: Presence,
        outbox: Outbox,
        archiver: Archiver,
        events: EventQueues,
    ) -> None:
        self._metrics = metrics
        self._minutes = minutes
        self._presence = presence
        self._outbox = outbox
        self._archiver = archiver
        self._events = events
        self._before = self._counted()

    async def run(self, worker: Worker) -> None:
        await worker.every(_SECONDS, self.step)

    async def step(self) -> None:
        """Raises StoreAway; what was counted is brought the next time."""
        counted = self._counted()
        users, devices = await self._presence.counts()
        states = {
            "online_users": users,
            "online_devices": devices,
            "outbox_bytes": await self._outbox.size(),
            "events_waiting": (await self._events.counts()).waiting,
            "lag_ms": int(await self._archiver.lag_seconds() * 1000),
        }
        await self._minutes.add({name: counted[name] - self._before[name] for name in counted}, states)
        self._before = counted

    def _counted(self) -> dict[str, int]:
        return {
            "messages": _total(self._metrics.batch_size, "_sum"),
            "pulls": _total(self._metrics.pull_seconds, "_count"),
            "refused": _total(self._metrics.dead_letters, "_total") + _total(self._metrics.over_budget, "_total"),
        }


def _total(metric: Counter | Histogram, suffix: str) -> int:
    """Returns the sum over all labels, in this process."""
    return int(
        sum(sample.value for family in metric.collect() for sample in family.samples if sample.name.endswith(suffix))
    )
