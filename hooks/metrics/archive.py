"""Turns the counts of an archiver into metrics, of which the store knows nothing."""

from collections import Counter
from typing import Protocol

from hooks.metrics import Metrics
from store.workers import Worker

_SECONDS = 1.0


class Archiving(Protocol):
    """archived: entries stored. failures: by reason."""

    archived: int
    failures: Counter[str]


class ArchiveCounts:
    def __init__(self, archiver: Archiving, metrics: Metrics) -> None:
        self._archiver = archiver
        self._metrics = metrics
        self._archived = 0
        self._failures: Counter[str] = Counter()

    async def run(self, worker: Worker) -> None:
        async def step() -> None:
            self.update()

        await worker.every(_SECONDS, step)

    def update(self) -> None:
        """Adds what happened since the last time."""
        archived, failures = self._archiver.archived, Counter(self._archiver.failures)
        self._metrics.archived.inc(archived - self._archived)
        for reason, count in (failures - self._failures).items():
            self._metrics.archive_failures.labels(reason).inc(count)
        self._archived, self._failures = archived, failures
