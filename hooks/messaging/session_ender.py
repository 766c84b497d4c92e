"""Ends sessions in EMQX: a few at once, and not all in one moment, as their devices come back."""

import asyncio
from collections import Counter
from typing import NamedTuple

import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.messaging.shares import Shares
from hooks.metrics import Metrics
from store.cancellation import end
from store.workers import Backoff, Worker

_AT_ONCE, _AT_ONCE_OF_SHARE = 8, 4
_PAUSE = 0.01
"""Seconds between two of them: a hundred in a second at most."""
_PAUSES = (1.0, 5.0)
"""Seconds before a session is tried again while EMQX is away: the first pause, and the longest."""
_MAX_WAITING = 10_000

log = structlog.get_logger(__name__)


class _Ending(NamedTuple):
    clientid: str
    reason: str


class SessionEnder:
    """Leaves what is waiting when it is stopped: the checks that asked for it find the sessions again."""

    def __init__(self, rest: Rest, metrics: Metrics) -> None:
        self._rest = rest
        self._ended = metrics.sessions_ended
        self._waiting: Shares[_Ending] = Shares()
        self._known: set[str] = set()
        self._working: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._retry = Backoff(*_PAUSES)

    def put(self, share: str, clientid: str, reason: str) -> None:
        """Queues a session. share: whose sessions wait for each other. reason: as it is counted."""
        if clientid in self._known:
            return
        if len(self._known) >= _MAX_WAITING:
            self._ended.labels("queue_full").inc()
            return
        self._known.add(clientid)
        self._waiting.put(share, _Ending(clientid, reason))
        self._changed.set()

    async def run(self, worker: Worker) -> None:
        try:
            await worker.every(_PAUSE, self._begin_next)
        finally:
            for task in list(self._tasks):
                await end(task)

    async def _begin_next(self) -> None:
        """Waits for a session whose turn it is, and begins to end it."""
        while (found := self._next()) is None:
            self._changed.clear()
            await self._changed.wait()
        self._working[found[0]] += 1
        task = asyncio.create_task(self._end(*found))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next(self) -> tuple[str, _Ending] | None:
        if self._working.total() >= _AT_ONCE:
            return None
        return self._waiting.take(lambda share: self._working[share] < _AT_ONCE_OF_SHARE)

    async def _end(self, share: str, ending: _Ending) -> None:
        try:
            if await self._rest.end_session(ending.clientid):
                self._ended.labels(ending.reason).inc()
        except BrokerAway as error:
            log.warning("session_ends_later", clientid=ending.clientid, error=str(error))
            await asyncio.sleep(self._retry.pause())
            self._waiting.put(share, ending)
        except BrokerRefused as error:
            log.error("session_not_ended", clientid=ending.clientid, error=str(error))
            self._known.discard(ending.clientid)
        else:
            self._retry.reset()
            self._known.discard(ending.clientid)
        finally:
            self._working[share] -= 1
            if not self._working[share]:
                del self._working[share]
            self._changed.set()
