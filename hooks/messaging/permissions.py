"""Carries changes of membership, in groups and among a tag's holders, to EMQX.

The store lists what changed, durably; an entry leaves the list once EMQX has done its part, however long that takes.
What is done follows from how things stand now, not from the entry: so repeats and the order of entries do no harm.

The share of a change is who caused it. Shares have their turns in everything that is done, so that nobody waits for the
many changes, or the many sessions, of another user.
"""

import asyncio
import time
from collections.abc import Iterable

import structlog

from hooks.emqx.rest import MAX_USERNAMES, BrokerAway, BrokerRefused
from hooks.messaging.backlog import Backlog, Work
from hooks.messaging.broker_permissions import BrokerPermissions
from hooks.metrics import Metrics
from store.cancellation import end, sleep_unless
from store.errors import StoreError
from store.operations.permissions import FIRST, Ending, Entry, Permission, PermissionWork
from store.workers import Backoff, Worker

_HELD_OF_SHARE, _HELD = 1000, 50_000
"""Entries that are held of one share and in all; the others stay on the list."""
_READ = 500
_LOOK_SECONDS = 0.05
"""How often the list is read for other shares, while what one share has left there waits for room."""
LEFT_SECONDS = 10.0
"""After how long the work of a process that stopped or died is another's: longer than a living one does not read."""
_SIGN_SECONDS = LEFT_SECONDS / 4
"""How often a worker that can hold no more shows that it is alive."""
_PAUSES = (0.2, 5.0)
"""Seconds before a failed call is tried again: the first pause, which doubles each time, and the longest."""
_LOG_SECONDS = 1.0

log = structlog.get_logger(__name__)


class PermissionWorker:
    """One worker of the list. Without a REST API it counts what it cannot do."""

    def __init__(self, work: PermissionWork, broker: BrokerPermissions | None, metrics: Metrics) -> None:
        self._work = work
        self._broker = broker
        self._count = metrics.permission_changes
        self._waiting = metrics.permissions_waiting
        self._backlog = Backlog(max_held=_HELD_OF_SHARE, at_once=MAX_USERNAMES)
        self._again_from: bytes | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retries: dict[str, Backoff] = {}
        self._logged_at = 0.0
        self._stopping = False
        self._done = asyncio.Event()

    async def run(self, worker: Worker) -> None:
        """Works on the list. Entries that are not done at the end are left to the next worker, which begins anew."""
        await worker.every(0.0, self._read_or_again, retry=Backoff(*_PAUSES))
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            await end(task)
        if self._broker is not None:
            await self._broker.stop()
        try:
            await self._work.leave()
        except StoreError as error:
            log.warning("permissions_left", error=str(error))

    async def _read_or_again(self) -> None:
        try:
            await self._read()
        except Exception:
            # What Redis gave in an answer that did not arrive is this worker's all the same.
            self._again_from = FIRST
            raise

    async def _read(self) -> None:
        """One look at the list: what was given and is not held, and, if there is room, what is new."""
        if self._again_from is not None:
            entries, self._again_from = await self._work.unfinished(self._again_from, _READ)
            self._hold(entries)
        elif room := self._backlog.room():
            share, after = room
            self._backlog.put_left(share, *await self._work.unfinished(after, _READ))
            self._start()
        if len(self._backlog) >= _HELD:
            await self._work.unfinished(FIRST, 1)  # a sign of life
            await self._wait_for_done(_SIGN_SECONDS)
            return
        wait = self._again_from is None and self._backlog.complete
        self._hold(await self._work.read(_READ, wait=wait))
        if not wait and self._backlog.room() is None:
            await self._wait_for_done(_LOOK_SECONDS)

    async def _wait_for_done(self, seconds: float) -> None:
        """Waits until a work is done, which may have made room, or so long."""
        self._done.clear()
        await sleep_unless(self._done, seconds)

    def _hold(self, entries: Iterable[Entry]) -> None:
        self._backlog.put(entries)
        self._start()

    def _start(self) -> None:
        """Begins all that may be worked on now."""
        while not self._stopping and (work := self._backlog.take()):
            task = asyncio.create_task(self._work_on(work), name="permission")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._waiting.set(len(self._backlog))

    async def _work_on(self, work: Work) -> None:
        """Each work is taken off the list by itself, and whatever has its turn then begins."""
        try:
            await self._do(work)
            await self._work.done(work.entries)
        except Exception as error:
            self._log(error)
            self._count.labels("retried").inc()
            if self._backlog.failed(work):
                retry = self._retries.setdefault(work.share, Backoff(*_PAUSES))
                asyncio.get_running_loop().call_later(retry.pause(), self._resume, work.share)
        else:
            self._retries.pop(work.share, None)
            self._backlog.done(work)
            self._done.set()
        self._start()

    async def _do(self, work: Work) -> None:
        first = work.entries[0]
        if isinstance(first, Ending):
            while await self._work.end_memberships(first):
                pass
            return
        topics = dict.fromkeys(entry.topic for entry in work.entries if isinstance(entry, Permission))
        if self._broker is None:
            self._count.labels("no_api").inc(len(topics))
            return
        for belongs in (await self._broker.bring(work.share, first.uid, topics)).values():
            self._count.labels("granted" if belongs else "revoked").inc()

    def _resume(self, share: str) -> None:
        self._backlog.resume(share)
        self._start()

    def _log(self, error: Exception) -> None:
        """Once a second: what stands against one share may stand against all."""
        expected = isinstance(error, StoreError | BrokerAway | BrokerRefused)
        now = time.monotonic()
        if not expected or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warning(
                "permissions_waiting",
                error=str(error),
                entries=len(self._backlog),
                exc_info=None if expected else error,
            )
