"""Puts devices' subscriptions right through EMQX's REST API.

Where `IM_SUBSCRIBE` says that the server subscribes, they get what is missing. In any case a kept session loses what
its user has no right to any more: he may have lost it while his device was away, with a million others.

Devices that came wait in a bounded queue, so no hook waits for EMQX; what fails because EMQX or the store is away is
tried again. What changes later comes through the list of permissions.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused, Rest
from hooks.metrics import Metrics
from store.cancellation import end
from store.errors import StoreError

_QUEUED = 100_000
_AT_ONCE = 8
_PAUSES = (0.2, 5.0)
"""Seconds before what failed is tried again: the first pause, doubled each time, and the longest."""
_STOP_SECONDS = 5.0
_OURS = ("group/", "business/")
"""What dispatched topics start with; others are the device's own affair."""

TopicsOf = Callable[[int], Awaitable[Sequence[str]]]
"""What a user's devices should subscribe."""

log = structlog.get_logger(__name__)


class _Arrival(NamedTuple):
    """resumed: with the subscriptions of a kept session. adds: what is missing is subscribed."""

    uid: int
    resumed: bool
    adds: bool


class Dispatch:
    """Without a REST API it counts what it cannot do."""

    def __init__(self, rest: Rest | None, metrics: Metrics) -> None:
        self._rest = rest
        self._count = metrics.dispatches
        self._queue: OrderedDict[str, _Arrival] = OrderedDict()
        self._arrived = asyncio.Event()
        self._stopping = False

    def put(self, uid: int, clientid: str, *, resumed: bool, adds: bool) -> None:
        """A device that came."""
        if self._rest is None:
            self._count.labels("no_api").inc()
            return
        waiting = self._queue.pop(clientid, None)
        self._queue[clientid] = _Arrival(uid, resumed or (waiting is not None and waiting.resumed), adds)
        if len(self._queue) > _QUEUED:
            self._queue.popitem(last=False)
            self._count.labels("queue_full").inc()
        self._arrived.set()

    async def run(self, topics: TopicsOf, stop: asyncio.Event) -> None:
        """Until `stop`; then whoever waits is dealt with for a few seconds more."""
        if self._rest is None:
            return
        working = [
            asyncio.create_task(self._keep_working(self._rest, topics), name="dispatch") for _ in range(_AT_ONCE)
        ]
        await stop.wait()
        self._stopping = True
        self._arrived.set()
        _, late = await asyncio.wait(working, timeout=_STOP_SECONDS)
        if self._queue or late:
            log.warning("dispatch_left", devices=len(self._queue))
        for task in late:
            await end(task)

    async def _keep_working(self, rest: Rest, topics: TopicsOf) -> None:
        pause = _PAUSES[0]
        while True:
            while not self._queue:
                if self._stopping:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            clientid, arrival = self._queue.popitem(last=False)
            try:
                await _bring(rest, topics, clientid, arrival)
            except (BrokerAway, StoreError) as error:
                log.warning("dispatch_waiting", error=str(error), devices=len(self._queue) + 1)
                self._count.labels("retried").inc()
                self._queue.setdefault(clientid, arrival)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSES[1])
            except Exception as error:
                expected = isinstance(error, BrokerRefused)
                log.error("dispatch_failed", clientid=clientid, error=str(error), exc_info=None if expected else error)
                self._count.labels("failed").inc()
            else:
                self._count.labels("done").inc()
                pause = _PAUSES[0]


async def _bring(rest: Rest, topics: TopicsOf, clientid: str, arrival: _Arrival) -> None:
    """Makes the device's subscriptions what they should be."""
    held = await rest.subscriptions(clientid) if arrival.resumed else set[str]()
    # After what is held: who became a member meanwhile is subscribed, and must stay so.
    wanted = await topics(arrival.uid)
    extra = [topic for topic in held if topic.startswith(_OURS) and topic not in wanted]
    if extra:
        await rest.unsubscribe(clientid, extra)
    missing = [topic for topic in wanted if topic not in held] if arrival.adds else []
    if not missing:
        return
    await rest.subscribe(clientid, missing)
    # Who was removed meanwhile was unsubscribed, perhaps before this subscribed him.
    still = set(await topics(arrival.uid))
    lost = [topic for topic in missing if topic not in still]
    if lost:
        await rest.unsubscribe(clientid, lost)
