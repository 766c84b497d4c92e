"""Takes what the service publishes live to EMQX: a bounded queue, drained in bulk.

All of it is told again anyway (a resend brings the `im.ack` again, a pull finds what is stored and what `im.sync`
points at), so the oldest go when the queue is full; each is counted.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import structlog

from hooks.emqx.rest import BrokerAway, BrokerRefused, Publish, Rest
from hooks.messaging.notices import notice
from hooks.metrics import Metrics
from store.addresses import Inbox
from store.workers import Backoff, Worker

_QUEUED = 100_000
_BULK = 500
_PAUSES = (0.1, 5.0)
"""Seconds before what failed is tried again: the first pause, and the longest."""
_STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Outgoing:
    """Publishes in the background. Without a REST API it counts what it cannot send."""

    def __init__(self, rest: Rest | None, secret: str, metrics: Metrics) -> None:
        self._rest = rest
        self._secret = secret
        self._metrics = metrics
        self._queue: deque[Publish] = deque()
        self._arrived = asyncio.Event()
        self._stopping = False

    @property
    def connected(self) -> bool:
        """Returns whether there is a REST API to publish through."""
        return self._rest is not None

    async def run(self, worker: Worker) -> None:
        """Publishes what waits; when it is stopped, it goes on with that for a few seconds."""
        if self._rest is not None:
            await worker.until_stopped(self._drain(self._rest), grace=_STOP_SECONDS, on_stop=self._finish)
            self._dropped("shutdown", len(self._queue))

    def _finish(self) -> None:
        self._stopping = True
        self._arrived.set()

    def tell(self, uid: int | str, kind: str, body: Mapping[str, Any]) -> None:
        """Queues one control message to `single/<uid>` that is live only."""
        to = Inbox(int(uid))
        _, payload = notice(self._secret, to, kind, body)
        self.publish(to.topic, payload)

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        """Queues one message."""
        if self._rest is None:
            self._dropped("no_api", 1)
            return
        if len(self._queue) >= _QUEUED:
            self._queue.popleft()
            self._dropped("queue_full", 1)
        self._queue.append(Publish(topic, payload, qos))
        self._arrived.set()

    def _dropped(self, reason: str, count: int) -> None:
        if count:
            self._metrics.control_messages_dropped.labels(reason).inc(count)

    async def _drain(self, rest: Rest) -> None:
        retry = Backoff(*_PAUSES)
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
                log.warning("broker_away", error=str(error), waiting=len(self._queue) + len(bulk))
                self._queue.extendleft(reversed(bulk))
                await asyncio.sleep(retry.pause())
            except BrokerRefused as error:
                self._dropped("refused", len(bulk))
                log.error("broker_refused", error=str(error), dropped=len(bulk))
                retry.reset()
            else:
                retry.reset()
