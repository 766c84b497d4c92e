"""Compares presence with EMQX's own list of clients: a broker node that dies sends no disconnect events. A client
that is in the list but not in presence is added, unless its disconnect is remembered. A connection that is in
presence but not in the list is removed if a second list, begun after it was recorded, lacks it too. Connected clients
are in both, whatever the clocks say: clocks decide only whether a device is looked at now or the next time.
"""

import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple

import structlog

from hooks.emqx.rest import Listed
from hooks.messaging import boot_sweep
from hooks.messaging.banning import Banning
from hooks.messaging.session_limit import SessionLimit
from hooks.metrics import Metrics
from store.addresses import number
from store.operations.boots import Boots
from store.presence.presence import Device, Presence, device_at
from store.redis.lease import PeriodicLease
from store.workers import Worker

_LOOKS = 10
"""How many times in one interval a process looks whether it is due, or may be tried again."""

log = structlog.get_logger(__name__)


class Reconciled(NamedTuple):
    """listed: devices that EMQX has. missing: those that only EMQX had. stale: those that only presence had."""

    listed: int = 0
    missing: int = 0
    stale: int = 0


class Reconciler:
    def __init__(
        self,
        presence: Presence,
        lease: PeriodicLease,
        broker: boot_sweep.BrokerSessions,
        boots: Boots,
        metrics: Metrics,
        limit: SessionLimit | None = None,
        banning: Banning | None = None,
    ) -> None:
        self._presence = presence
        self._lease = lease
        self._broker = broker
        self._boots = boots
        self._metrics = metrics
        self._limit = limit
        self._banning = banning

    async def run(self, seconds: int, worker: Worker) -> None:
        """Reconciles once after this process began, and then whenever no process has for that many seconds."""
        await worker.every(seconds / _LOOKS, partial(self._reconcile_if_due, seconds * 1000, _now()))

    async def _reconcile_if_due(self, milliseconds: int, started: int) -> None:
        try:
            last = await self._lease.last()
            if last < started or _now() - last >= milliseconds:
                await self.reconcile()
        except Exception:
            self._metrics.reconciles.labels("failed").inc()
            raise

    async def reconcile(self, progress: Callable[[Reconciled], object] = lambda so_far: None) -> Reconciled | None:
        """Compares once; returns None if another process is doing it. Raises StoreError, BrokerAway, BrokerRefused."""
        async with self._lease.held() as held:
            if not held:
                return None
            began = _now()
            done = await self._compare(began, progress)
            await self._lease.complete(began)
        log.info("reconciled", **done._asdict())
        self._metrics.reconciles.labels("done").inc()
        return done

    async def _compare(self, began: int, progress: Callable[[Reconciled], object]) -> Reconciled:
        listed = set[int]()
        done = Reconciled()
        if self._limit is not None:
            self._limit.begin()
        if self._banning is not None:
            await self._banning.begin()
        async for page in self._listing():
            if self._limit is not None:
                self._limit.see(page)
            if self._banning is not None:
                self._banning.see(page)
            listed.update(map(_identity, _devices(page)))
            came = await self._presence.connected(*_devices(await self._let_in(page)))
            self._metrics.presence_drift.labels("missing").inc(came.devices)
            done = Reconciled(len(listed), done.missing + came.devices)
            progress(done)
        if self._limit is not None:
            await self._limit.enforce()
        suspects = dict[int, Device]()
        async for devices in self._presence.everybody():
            await self._lease.keep()
            for device in devices:
                if device.connected_at < began and _identity(device) not in listed:
                    suspects[_identity(device)] = device
        if suspects:
            async for page in self._listing():
                for device in _devices(page):
                    suspects.pop(_identity(device), None)
                progress(done)
            stale = await self._presence.unlisted(*suspects.values())
            self._metrics.presence_drift.labels("stale").inc(stale)
            done = done._replace(stale=stale)
        return done

    async def _listing(self) -> AsyncIterator[list[Listed]]:
        """Yields what EMQX lists, a page at a time."""
        async for page in self._broker.sessions():
            await self._lease.keep()
            yield page

    async def _let_in(self, page: list[Listed]) -> list[Listed]:
        """Without those whom a node that has just started may have let in unasked: of them, events must tell.

        The nodes are asked for after the page, so that none of it is of a node that started in between.
        """
        if all(each.has_token for each in page):
            return page
        starting = {life.node for life in await boot_sweep.begun(self._broker, self._boots)}
        return [each for each in page if each.has_token or each.node not in starting]


def _devices(page: list[Listed]) -> list[Device]:
    """Returns the users' devices that are connected."""
    return [
        device_at(each.node, uid, each.clientid, each.connected_at)
        for each in page
        if each.connected and (uid := number(each.username)) is not None
    ]


def _identity(device: Device) -> int:
    """Returns 8 bytes that identify a connection, as there may be millions."""
    return hash(device)


def _now() -> int:
    return time.time_ns() // 1_000_000
