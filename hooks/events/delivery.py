"""Delivers what waits in the queues of events: one process for all, one batch after another, each until it is taken."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Protocol

import structlog

from hooks.events.receiver import ReceiverAway, ReceiverGone
from hooks.events.render import render
from hooks.metrics import Metrics
from store.errors import LeaseLost
from store.events.queues import OTHERS, USERS, EventCounts, EventQueues, QueueEntry
from store.redis.lease import Lease
from store.workers import Backoff, Worker

MAX_EVENTS, MAX_BYTES = 100, 1024 * 1024
"""The largest batch."""

_KEEP_SECONDS = 3.0
_IDLE_SECONDS = 0.1
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0
"""Between two attempts at a batch that is not taken."""
_GRACE_SECONDS = 5.0
"""For the batch that is on its way when the service is stopped."""

log = structlog.get_logger(__name__)


class BackEnd(Protocol):
    """digest: names it."""

    @property
    def digest(self) -> str: ...

    async def deliver(self, events: Sequence[bytes]) -> None:
        """Raises ReceiverAway, ReceiverGone."""


class EventDelivery:
    """The process that has the lease delivers. Any other process may take what it has not finished, and deliver it
    again: so each event is delivered at least once, and never before one that was written before it.
    """

    def __init__(self, queues: EventQueues, lease: Lease, receiver: BackEnd, metrics: Metrics) -> None:
        self._queues = queues
        self._lease = lease
        self._receiver = receiver
        self._metrics = metrics
        self._leads = False
        self._pause = 0.0
        self._known: EventCounts | None = None
        self._ahead: dict[str, list[QueueEntry]] = {USERS: [], OTHERS: []}
        """Events that were read from each queue and are not delivered yet."""

    async def run(self, worker: Worker) -> None:
        retry = Backoff(_FIRST_PAUSE, _MAX_PAUSE)
        delivering = worker.every(lambda: self._pause, self.step, retry=retry, finishes=True)
        await worker.until_stopped(delivering, grace=_GRACE_SECONDS)
        if self._leads:
            await self._lease.leave()

    async def keep_lease(self, worker: Worker) -> None:
        """Runs beside `run`: a batch may be on its way for longer than the lease lasts."""
        await worker.every(_KEEP_SECONDS, self.keep)

    async def keep(self) -> None:
        """Keeps the lease, or takes it. The process that has it counts what was lost with Redis since it looked last:
        with Redis goes the lease, too, and any process may take the new one. Until it has counted them, the others
        remember what they knew.
        """
        if not self._leads:
            self._ahead = {USERS: [], OTHERS: []}
            self._leads = await self._lease.take()
        else:
            try:
                await self._lease.keep()
            except LeaseLost:
                self._leads = False
                raise
        counts = await self._queues.counts()
        if self._known is not None and counts.counted != self._known.state and (lost := counts.lost_since(self._known)):
            if not self._leads:
                return
            if await self._queues.count_lost(lost, self._known.state):
                log.error("events_lost", events=lost, reason="Redis was emptied, or restored to an older state")
            counts = await self._queues.counts()
        if self._leads and not counts.state:
            await self._queues.begin()
            counts = await self._queues.counts()
        self._known = counts

    async def step(self) -> None:
        """Delivers one batch, if there is anything to deliver and nobody else does. Raises ReceiverAway."""
        self._pause = _IDLE_SECONDS
        if not self._leads:
            return
        if await self._queues.stopped(self._receiver.digest):
            self._pause = _KEEP_SECONDS
            return
        await self._read()
        entries, events = batch(list(self._ahead.values()))
        if not entries:
            return
        try:
            await self._receiver.deliver(events)
        except ReceiverAway as error:
            self._metrics.events_failed.labels(error.reason).inc()
            raise
        except ReceiverGone:
            self._metrics.events_failed.labels("410").inc()
            log.error("events_stopped", reason="IM_EVENTS_URL answered 410", mend="emqx-im events resume")
            await self._queues.stop(self._receiver.digest)
            return
        await self._queues.delivered(entries)
        for entry in entries:
            self._ahead[entry.queue].remove(entry)
            self._metrics.events_sent.labels(entry.kind).inc(len(entry.items))
        self._pause = 0.0

    async def _read(self) -> None:
        """Reads on, of each queue of which less than a batch is there."""
        for queue, ahead in self._ahead.items():
            if sum(len(entry.items) for entry in ahead) < MAX_EVENTS:
                ahead += await self._queues.waiting(queue, ahead[-1].id if ahead else "")


def batch(queues: Sequence[Sequence[QueueEntry]]) -> tuple[list[QueueEntry], list[bytes]]:
    """Returns the entries to deliver next, and their events: as many as go into one request, of each queue in turn, the
    oldest first. One entry goes, however large.
    """
    taken: list[QueueEntry] = []
    events: list[bytes] = []
    size = 0
    for entry in (entry for turn in zip_longest(*queues) for entry in turn if entry is not None):
        rendered = render(entry)
        size += sum(map(len, rendered)) + len(rendered)
        if taken and (len(events) + len(rendered) > MAX_EVENTS or size > MAX_BYTES):
            break
        taken.append(entry)
        events += rendered
    return taken, events
