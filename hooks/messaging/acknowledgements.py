"""Sends `im.ack` once a message is durable.

If Redis syncs its AOF at every write, that is at once. Otherwise it is when the archive has the message, which is
checked for all waiting ones together. Waiting acknowledgements exist only in this process and end with it. They are
also dropped when Redis was restarted or rebuilt, because the message may be gone then: senders resend until they have
their `im.ack`.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from hooks.messaging.outgoing import Outgoing
from hooks.metrics import Metrics
from store.errors import StoreAway
from store.redis.durability import Durability
from store.workers import Worker

_HELD = 100_000
_LOOK_SECONDS = 0.1
_LOOK_SECONDS_IF_IMMEDIATE = 1.0
"""Pause between looks while `im.ack` is sent at once: then only a change of Redis's setting is looked for."""

log = structlog.get_logger(__name__)


class Waiting(NamedTuple):
    mid: int
    sender: str
    client_id: str


class Acknowledgements:
    """aof: how Redis syncs, as `store.redis.durability` names it; "" before it could be asked."""

    def __init__(self, look: Callable[[], Awaitable[Durability]], outgoing: Outgoing, metrics: Metrics) -> None:
        """look: asks Redis; raises StoreAway."""
        self._look = look
        self._outgoing = outgoing
        self._metrics = metrics
        self._waiting: deque[Waiting] = deque()
        self._immediate = False
        self._life: tuple[str, bytes | None] | None = None
        self.aof = ""

    def stored(self, sender: str, client_id: str, mid: int) -> None:
        """Notes that a message whose sender wants an `im.ack` is stored under this id."""
        if self._immediate:
            self._tell(Waiting(mid, sender, client_id))
            return
        if len(self._waiting) >= _HELD:
            self._waiting.popleft()
            self._dropped(1)
        self._waiting.append(Waiting(mid, sender, client_id))

    async def run(self, worker: Worker) -> None:
        await worker.every(lambda: _LOOK_SECONDS_IF_IMMEDIATE if self._immediate else _LOOK_SECONDS, self.step)

    async def step(self) -> None:
        """Looks once, and tells all senders whose messages are durable by now."""
        asked, self._waiting = self._waiting, deque()
        try:
            found = await self._look()
        except StoreAway:
            # The log says so already. Until Redis is back nothing is stored, so there is nothing to tell.
            self._waiting.extendleft(reversed(asked))
            return
        self._note(found)
        if found.life != self._life:
            self._life = found.life
            self._dropped(len(asked))
            return
        held = [each for each in asked if not found.holds(each.mid)]
        for each in asked:
            if found.holds(each.mid):
                self._tell(each)
        self._waiting.extendleft(reversed(held))

    def _note(self, found: Durability) -> None:
        self._immediate = found.immediate
        if found.aof != self.aof:
            self.aof = found.aof
            if found.immediate:
                log.info("redis_durable", aof=found.aof)
            else:
                log.warning("redis_not_durable", aof=found.aof, consequence="im.ack waits for the archive")

    def _dropped(self, count: int) -> None:
        if count:
            self._metrics.control_messages_dropped.labels("not_durable").inc(count)

    def _tell(self, message: Waiting) -> None:
        self._outgoing.tell(message.sender, "im.ack", {"id": message.client_id, "mid": message.mid})
