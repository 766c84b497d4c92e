"""Drops EMQX's permission caches of single devices, a little later: many reasons within that time cost one call."""

import asyncio
import time
from collections import OrderedDict
from functools import partial

import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.metrics import Metrics
from store.workers import Worker

_LATER_SECONDS = 5.0
"""A device's cache is dropped at most once in this time."""
_STEP_SECONDS = 0.5
_MAX_WAITING = 10_000
"""Devices that wait. A device without a place keeps its cache until that expires by itself."""
_AT_ONCE = 8

log = structlog.get_logger(__name__)


class Caches:
    """Without a REST API nothing is dropped."""

    def __init__(self, rest: Rest | None, metrics: Metrics) -> None:
        self._rest = rest
        self._count = metrics.device_caches_dropped
        self._due: OrderedDict[str, float] = OrderedDict()

    def forget_soon(self, clientid: str) -> None:
        """Schedules a drop of what EMQX caches for this device, so that it asks again."""
        if clientid in self._due:
            return
        if self._rest is None or len(self._due) >= _MAX_WAITING:
            self._count.labels("no_api" if self._rest is None else "queue_full").inc()
            return
        self._due[clientid] = time.monotonic() + _LATER_SECONDS

    async def run(self, worker: Worker) -> None:
        """Drops caches. Those that wait at the end are left: they end with their connections, or after an hour."""
        if self._rest is not None:
            await worker.every(_STEP_SECONDS, partial(self._drop_due, self._rest))

    async def _drop_due(self, rest: Rest) -> None:
        while due := self._take_due():
            await asyncio.gather(*(self._drop(rest, clientid) for clientid in due))

    def _take_due(self) -> list[str]:
        now = time.monotonic()
        due = list[str]()
        while self._due and len(due) < _AT_ONCE and next(iter(self._due.values())) <= now:
            due.append(self._due.popitem(last=False)[0])
        return due

    async def _drop(self, rest: Rest, clientid: str) -> None:
        try:
            await rest.drop_cache(clientid)
        except BrokerAway as error:
            log.warning("cache_drop_waiting", error=str(error), devices=len(self._due) + 1)
            self._count.labels("retried").inc()
            self._due.setdefault(clientid, time.monotonic() + _LATER_SECONDS)
        except BrokerRefused as error:
            log.error("cache_drop_failed", clientid=clientid, error=str(error))
            self._count.labels("failed").inc()
        else:
            self._count.labels("done").inc()
