"""Makes sure that EMQX keeps no denial that nobody decided.

If EMQX gets no answer (the service is restarted, or cannot answer, or is out of reach) it denies, and caches that for
an hour for the connection. But it counts such questions on each node, so that no outage is missed, on whichever side
it was. Once questions are answered again its caches are dropped, and clients that may have been refused a
subscription meanwhile are told again what to subscribe to. After a drop EMQX asks for everybody's permissions again.
So there is none in a steady state, none while questions go undecided (it would drop valid answers, too) unless that
does not end, and not many in a row, because a client that can make questions go undecided could do harm by it.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

import structlog

from hooks.bounded import Bounded
from hooks.emqx.rest import Asked, BrokerAway, BrokerRefused, Questions, Rest
from hooks.messaging.patience import Asker
from hooks.messaging.subscriptions import Subscriptions
from hooks.metrics import Metrics
from store.cancellation import sleep_unless
from store.operations.watched_caches import Watched, WatchedCaches
from store.presence.presence import Presence
from store.redis.lease import PeriodicLease
from store.workers import Worker

_LOOK_SECONDS = 2.0
_AGAIN_SECONDS = 0.5
"""Pause after a look that was not conclusive."""
_CACHED_SECONDS = 1.0
"""After this time EMQX has also cached what it has counted: only that is certain to be dropped."""
_RISING_MS = 30_000
"""After this time the caches are dropped although questions are still undecided."""
_BURST = 10
_DROPS_A_MS = 2 / 60_000
"""Drops that may follow each other; afterwards there are two a minute."""
_BEFORE_MS = 60_000
"""Clients that connected this long before the first undecided question may have subscribed after it."""
_MAX_TOLD = 10_000
_AT_ONCE = 32
_MAX_NOTED = 10_000

log = structlog.get_logger(__name__)


class CacheWatch:
    def __init__(
        self,
        lease: PeriodicLease,
        watched: WatchedCaches,
        rest: Rest,
        presence: Presence,
        subscriptions: Subscriptions,
        metrics: Metrics,
    ) -> None:
        self._lease = lease
        self._watched = watched
        self._rest = rest
        self._presence = presence
        self._subscriptions = subscriptions
        self._undecided = metrics.undecided_questions
        self._drops = metrics.caches_dropped
        self._noted = Bounded[Asker, float](_MAX_NOTED)
        self._woken = asyncio.Event()
        self._well = False
        self._trouble = ""

    def undecided(self, device: Asker | None) -> None:
        """Notes that this process could not decide a question. device: the asking one, if it wants to subscribe."""
        if device is not None:
            self._noted[device] = time.monotonic()
        self._woken.set()

    async def run(self, worker: Worker) -> None:
        """Runs the watch. Another process, or the next one, does what is left at the end: the broker counts."""
        await worker.every(_AGAIN_SECONDS, self._watch)

    async def _watch(self) -> None:
        """Looks; after a look that found all well, not before it is due, or a question could not be decided."""
        well, self._well = self._well, False
        if well:
            await sleep_unless(self._woken, _LOOK_SECONDS - _AGAIN_SECONDS)
        self._well = await self._step(force=not well)
        if self._well:
            self._trouble = ""

    async def _step(self, *, force: bool) -> bool:
        """Returns whether the broker has no wrong denial in its caches, as far as is known."""
        force = force or self._woken.is_set()
        self._woken.clear()
        began = _now()
        if not force and began - await self._lease.last() < _LOOK_SECONDS * 1000:
            return True
        counted = time.monotonic() - _CACHED_SECONDS
        async with self._lease.held() as held:
            if not held:
                return False
            propagated = await self._look(began)
            await self._lease.complete(began)
            if propagated:
                await self._tell_noted(counted)
        return propagated and not self._noted

    async def _look(self, began: int) -> bool:
        asked = await self._rest.questions()
        held = await self._watched.load() or Watched(_plain(asked), {}, began - 10 * _BEFORE_MS, 0, 0, _BURST)
        self._count(held.counted, asked.of)
        held = held._replace(counted=_plain(asked))
        if not _more(held.covered, asked):
            clean_at = began if asked.connected else held.clean_at
            await self._watched.save(held._replace(covered=_plain(asked), clean_at=clean_at, stale_at=0))
            return True
        held = held._replace(stale_at=held.stale_at or began)
        await asyncio.sleep(_CACHED_SECONDS)
        again = await self._rest.questions()
        quiet, now = not _more(_plain(asked), again), _now()
        drops = min(_BURST, held.drops + (now - held.dropped_at) * _DROPS_A_MS)
        due = quiet or now - max(held.stale_at, held.dropped_at) >= _RISING_MS
        if not again.connected or not due or drops < 1:
            self._tell_trouble(
                "EMQX does not reach the authorizer" if not again.connected else "questions go undecided"
            )
            await self._watched.save(held)
            return False
        await self._drop(held, asked)
        await self._watched.save(held._replace(covered=_plain(asked), stale_at=0, dropped_at=now, drops=drops - 1))
        return quiet

    async def _drop(self, held: Watched, asked: Asked) -> None:
        try:
            await self._rest.drop_all_caches()
        except (BrokerAway, BrokerRefused):
            self._drops.labels("failed").inc()
            raise
        self._drops.labels("done").inc()
        undecided = {node: questions.undecided for node, questions in asked.of.items() if questions.undecided}
        (log.warning if undecided else log.info)("permission_caches_dropped", undecided_since_start=undecided)
        since = held.clean_at - _BEFORE_MS
        seen = await self._presence.seen_since(since, _MAX_TOLD)
        if len(seen) == _MAX_TOLD:
            log.warning("subscriptions_not_told_to_all", looked_at=len(seen))
        online = await self._presence.devices(seen)
        await self._tell(
            {uid: [clientid for clientid, at in devices.items() if at >= since] for uid, devices in online.items()}
        )

    async def _tell_noted(self, until: float) -> None:
        """Tells devices whose subscriptions this process could not decide; their cached answers are dropped by now."""
        while self._noted and next(iter(self._noted.values())) <= until:
            device, _ = self._noted.popitem(last=False)
            await self._tell({device.uid: [device.clientid]})

    async def _tell(self, devices: Mapping[int, Iterable[str]]) -> None:
        told = [(uid, list(clientids)) for uid, clientids in devices.items()]
        told = [(uid, clientids) for uid, clientids in told if clientids]
        for start in range(0, len(told), _AT_ONCE):
            some = told[start : start + _AT_ONCE]
            await asyncio.gather(*(self._subscriptions.again(uid, clientids) for uid, clientids in some))
            await self._lease.keep()

    def _count(self, before: Mapping[str, list[int]], now: Mapping[str, Questions]) -> None:
        for node, questions in now.items():
            _, undecided = before.get(node, (0, 0))
            self._undecided.inc(max(0, questions.undecided - undecided))

    def _tell_trouble(self, what: str) -> None:
        """Logs trouble once, as long as it stays the same."""
        if what != self._trouble:
            self._trouble = what
            log.warning("permission_caches_kept", error=what)


def _plain(asked: Asked) -> dict[str, list[int]]:
    return {node: [questions.total, questions.undecided] for node, questions in asked.of.items()}


def _more(covered: Mapping[str, list[int]], asked: Asked) -> bool:
    """Returns whether questions went undecided, or a node was started that may have denied before it could ask."""
    return any(
        node not in covered or questions.undecided != covered[node][1] or questions.total < covered[node][0]
        for node, questions in asked.of.items()
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
