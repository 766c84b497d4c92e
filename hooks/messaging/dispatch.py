"""Corrects devices' subscriptions through EMQX's REST API.

If `IM_SUBSCRIBE` says that the server subscribes, devices get what is missing. In any case a kept session loses the
subscriptions that its user is no longer entitled to: the user may have lost them while the device was away. Devices
that connect wait in a bounded queue, in which users take turns, so no hook waits for EMQX, and nobody waits for
another user's devices. Calls that fail because EMQX or the store is away are tried again. Later changes come through
the list of permissions. Users may be removed while their device is being subscribed to topics that were read before.
Their topics are read again after that. In case this process dies in between, the worker of the removal sees that the
device is in hand, and looks again.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.messaging.shares import Shares
from hooks.metrics import Metrics
from store.addresses import is_for_many
from store.errors import StoreError
from store.operations.subscribing import Subscribing
from store.workers import Backoff, Worker

_QUEUED, _QUEUED_OF_USER = 100_000, 100
_AT_ONCE, _AT_ONCE_OF_USER = 8, 4
_PAUSES = (0.2, 5.0)
"""Seconds before a failed call is tried again: the first pause, which doubles each time, and the longest."""
_STOP_SECONDS = 5.0

TopicsOf = Callable[[int], Awaitable[Sequence[str]]]
"""Returns what a user's devices should be subscribed to."""

log = structlog.get_logger(__name__)


class _Arrival(NamedTuple):
    """resumed: with the subscriptions of a kept session. adds: what is missing is subscribed."""

    uid: int
    resumed: bool
    adds: bool


class Dispatch:
    """Without a REST API it counts what it cannot do."""

    def __init__(self, rest: Rest | None, subscribing: Subscribing, metrics: Metrics) -> None:
        self._rest = rest
        self._subscribing = subscribing
        self._count = metrics.dispatches
        self._waiting: dict[str, _Arrival] = {}
        self._turns: Shares[str] = Shares()
        self._of_user: Counter[int] = Counter()
        self._working: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._stopping = False

    def put(self, uid: int, clientid: str, *, resumed: bool, adds: bool) -> None:
        """Queues a device that has connected."""
        if self._rest is None:
            self._count.labels("no_api").inc()
            return
        waiting = self._waiting.get(clientid)
        if waiting is None:
            if len(self._waiting) >= _QUEUED or self._of_user[uid] >= _QUEUED_OF_USER:
                self._count.labels("queue_full").inc()
                return
            self._turns.put(str(uid), clientid)
            self._of_user[uid] += 1
        self._waiting[clientid] = _Arrival(uid, resumed or (waiting is not None and waiting.resumed), adds)
        self._changed.set()

    async def run(self, topics: TopicsOf, worker: Worker) -> None:
        """Works on devices; when it is stopped, goes on with those that wait for a few seconds."""
        if self._rest is None:
            return
        working = [self._keep_working(self._rest, topics) for _ in range(_AT_ONCE)]
        await worker.until_stopped(*working, grace=_STOP_SECONDS, on_stop=self._finish)
        if left := len(self._waiting) + self._working.total():
            log.warning("dispatch_left", devices=left)

    def _finish(self) -> None:
        self._stopping = True
        self._changed.set()

    async def _keep_working(self, rest: Rest, topics: TopicsOf) -> None:
        retry = Backoff(*_PAUSES)
        while self._waiting or not self._stopping:
            found = self._turns.take(lambda share: self._working[share] < _AT_ONCE_OF_USER)
            if found is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            share, clientid = found
            arrival = self._waiting.pop(clientid)
            self._of_user -= Counter([arrival.uid])
            self._working[share] += 1
            try:
                await self._bring(rest, topics, clientid, arrival)
            except (BrokerAway, StoreError) as error:
                log.warning("dispatch_waiting", error=str(error), devices=len(self._waiting) + 1)
                self._count.labels("retried").inc()
                # A failed call may have been carried out: the device is treated like one that has subscriptions.
                self.put(arrival.uid, clientid, resumed=True, adds=arrival.adds)
                await asyncio.sleep(retry.pause())
            except Exception as error:
                expected = isinstance(error, BrokerRefused)
                log.error("dispatch_failed", clientid=clientid, error=str(error), exc_info=None if expected else error)
                self._count.labels("failed").inc()
            else:
                self._count.labels("done").inc()
                retry.reset()
            finally:
                self._working -= Counter([share])
                self._changed.set()

    async def _bring(self, rest: Rest, topics: TopicsOf, clientid: str, arrival: _Arrival) -> None:
        """Makes the device's subscriptions what they should be."""
        held = await rest.subscriptions(clientid) if arrival.resumed else set[str]()
        if arrival.adds:
            await self._subscribing.begin(arrival.uid, clientid)
        # After the subscriptions: a user who became a member meanwhile is subscribed, and must stay so.
        wanted = await topics(arrival.uid)
        extra = [topic for topic in held if is_for_many(topic) and topic not in wanted]
        if extra:
            await rest.unsubscribe(clientid, extra)
        missing = [topic for topic in wanted if topic not in held] if arrival.adds else []
        if missing:
            await rest.subscribe(clientid, missing)
            # A user who was removed meanwhile was unsubscribed, perhaps before this call subscribed them.
            still = set(await topics(arrival.uid))
            lost = [topic for topic in missing if topic not in still]
            if lost:
                await rest.unsubscribe(clientid, lost)
        if arrival.adds:
            await self._subscribing.end(arrival.uid, clientid)
