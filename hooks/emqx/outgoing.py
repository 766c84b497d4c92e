"""Live control messages on their way to EMQX: a bounded queue, drained in bulk.

They are told again anyway (a resend brings the `im.ack` again, a pull finds what `im.sync` points at), so the oldest go
when the queue is full; each is counted.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson
import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused, Publish, Rest
from hooks.metrics import Metrics
from hooks.tokens import receiver_key
from store.cancellation import end
from store.record import SERVICE

_QUEUED = 100_000
_BULK = 500
_LONGEST_PAUSE = 5.0

log = structlog.get_logger(__name__)


class Outgoing:
    """Publishes control messages in the background. Without a REST API it counts what it cannot send."""

    def __init__(self, rest: Rest | None, secret: str, metrics: Metrics) -> None:
        self._rest = rest
        self._secret = secret
        self._metrics = metrics
        self._queue: deque[Publish] = deque()
        self._arrived = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._rest is not None:
            self._task = asyncio.create_task(self._drain(self._rest), name="outgoing")

    async def stop(self, seconds: float) -> None:
        """Sends what waits, for at most so long."""
        self._stopping = True
        self._arrived.set()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=seconds)
            for task in late:
                await end(task)
            self._dropped("shutdown", len(self._queue))

    def tell(self, uid: str, kind: str, body: Mapping[str, Any]) -> None:
        """Queues one live control message to `single/<uid>`."""
        if self._rest is None:
            self._dropped("no_api", 1)
            return
        if len(self._queue) >= _QUEUED:
            self._queue.popleft()
            self._dropped("queue_full", 1)
        message = {
            "id": f"im.{uuid4().hex}",
            "type": kind,
            "from": SERVICE,
            "key": receiver_key(self._secret, uid),
            "body": body,
        }
        self._queue.append(Publish(f"single/{uid}", orjson.dumps(message)))
        self._arrived.set()

    def _dropped(self, reason: str, count: int) -> None:
        if count:
            self._metrics.control_messages_dropped.labels(reason).inc(count)

    async def _drain(self, rest: Rest) -> None:
        pause = 0.1
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._arrived.clear()
                await self._arrived.wait()
                continue
            bulk = [self._queue.popleft() for _ in range(min(_BULK, len(self._queue)))]
            try:
                await rest.publish(bulk)
            except BrokerAway as error:
                self._metrics.broker_requests.labels("away").inc()
                log.warning("broker_away", error=str(error), waiting=len(self._queue) + len(bulk))
                self._queue.extendleft(reversed(bulk))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            except BrokerRefused as error:
                self._metrics.broker_requests.labels("refused").inc()
                self._dropped("refused", len(bulk))
                log.error("broker_refused", error=str(error), dropped=len(bulk))
                pause = 0.1
            else:
                self._metrics.broker_requests.labels("done").inc()
                pause = 0.1
