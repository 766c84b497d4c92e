"""Reports publishes that the broker denies: EMQX acknowledges and drops them, so `im.error` tells the sender.

Which message it was is not known: `ref` is empty, and the body has the `topic`. EMQX keeps a denial for the connection
and asks no more, so some seconds later it is made to forget: users who go on publishing are told again. A user who is
allowed to publish by then, because the group's `create` was on its way, is told nothing.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from typing import NamedTuple

import structlog

from hooks.errors import CODES
from hooks.messaging.caches import Caches
from hooks.messaging.memberships import Memberships
from hooks.messaging.outgoing import Outgoing
from hooks.messaging.patience import Asker
from hooks.metrics import Metrics
from store.addresses import Global, Group, Inbox, SendTopic, Tag, parse
from store.errors import StoreError
from store.workers import Worker

_GATHER_SECONDS = 0.5
"""A denied topic of a device is reported at most once in this time, however often the broker asks."""
_STEP_SECONDS = 0.2
_MAX_OF_DEVICE = 5
"""Topics that wait to be reported to one device; others are reported when it publishes there again."""
_MAX_WAITING = 10_000
_AT_ONCE = 50
_MAX_TOPIC = 256

_SEND_ELSEWHERE = "Messages are published to `send/…`: the operator has set trusted sending."

log = structlog.get_logger(__name__)


class _Denied(NamedTuple):
    asker: Asker
    topic: str


class Denials:
    def __init__(
        self, memberships: Memberships, outgoing: Outgoing, caches: Caches, metrics: Metrics, *, trusted_send: bool
    ) -> None:
        self._memberships = memberships
        self._outgoing = outgoing
        self._caches = caches
        self._told = metrics.denied_publishes
        self._trusted_send = trusted_send
        self._waiting: OrderedDict[_Denied, float] = OrderedDict()
        self._of_device: Counter[Asker] = Counter()

    def note(self, asker: Asker, topic: str) -> None:
        """Notes that the broker is about to deny this device a publish with QoS 1."""
        self._caches.forget_soon(asker.clientid)
        denied = _Denied(asker, topic)
        if denied in self._waiting:
            return
        if self._of_device[asker] >= _MAX_OF_DEVICE or len(self._waiting) >= _MAX_WAITING:
            self._told.labels("untold").inc()
            return
        self._waiting[denied] = time.monotonic() + _GATHER_SECONDS
        self._of_device[asker] += 1

    async def run(self, worker: Worker) -> None:
        """Tells senders; when it is stopped, all who wait at once."""
        await worker.every(_STEP_SECONDS, self._tell_due)
        await self._tell(float("inf"))

    async def _tell_due(self) -> None:
        await self._tell(time.monotonic())

    async def _tell(self, until: float) -> None:
        while due := self._due(until):
            await asyncio.gather(*map(self._tell_of, due))

    def _due(self, until: float) -> list[_Denied]:
        due = list[_Denied]()
        while self._waiting and len(due) < _AT_ONCE and next(iter(self._waiting.values())) <= until:
            denied, _ = self._waiting.popitem(last=False)
            self._of_device[denied.asker] -= 1
            if not self._of_device[denied.asker]:
                del self._of_device[denied.asker]
            due.append(denied)
        return due

    async def _tell_of(self, denied: _Denied) -> None:
        try:
            topic, code, message = await self._judge(denied)
        except StoreError as error:
            # They hear of it at the next publish, about which the broker asks again.
            self._told.labels("untold").inc()
            log.warning("denial_unjudged", error=str(error))
            return
        except Exception as error:
            log.error("denial_failed", exc_info=error)
            return
        if code is not None:
            body = {"ref": "", "code": code, "message": message or CODES[code].meaning, "topic": topic[:_MAX_TOPIC]}
            self._outgoing.tell(denied.asker.uid, "im.error", body)
            self._told.labels(code).inc()

    async def _judge(self, denied: _Denied) -> tuple[str, str | None, str | None]:
        """Returns the receiver's topic, the code (None: they may publish there now), and a specific message."""
        topic, to = denied.topic, parse(denied.topic)
        if self._trusted_send and isinstance(to, Inbox | Group):
            return topic, "unknown_topic", _SEND_ELSEWHERE
        if self._trusted_send and isinstance(to, SendTopic):
            topic, to = to.address.topic, to.address
        match to:
            case Group():
                return topic, await self._memberships.refusal(to, denied.asker.uid), None
            case Global() | Tag():
                return topic, "not_an_operator", None
        return topic, "unknown_topic", None
