"""Sends on one connection: everything unsent at once and in order, then each again until it is answered. After a
hold it begins with one message, so that messages still over the budget are not sent, and counted, in vain.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

from emqx_im_client.backoff import Backoff
from emqx_im_client.doubts import TopicDoubts
from emqx_im_client.outbox import Outbox
from emqx_im_client.state import OutgoingMessage
from emqx_im_client.trusted import sending_topic

RESEND = (4.0, 60.0)
"""Seconds until a message is sent again: the first pause, and the longest."""

Publish = Callable[[str, str], Awaitable[None]]
"""Takes topic and payload; returns when the broker has them."""


class Sender:
    """trusted_send: messages are published to `send/…`."""

    def __init__(self, outbox: Outbox, doubts: TopicDoubts, *, trusted_send: bool) -> None:
        self._outbox = outbox
        self._doubts = doubts
        self._trusted_send = trusted_send
        self._due: dict[str, float] = {}
        self._pauses: dict[str, Backoff] = {}
        outbox.on_answer = self._on_answer
        outbox.on_hold = self._on_hold

    async def keep_sending(self, publish: Publish) -> None:
        """Sends on a new connection until it ends. Raises NothingAnswered, and what `publish` raises."""
        self._due, self._pauses = {}, {}
        self._doubts.begin()
        while True:
            self._outbox.changed.clear()
            pace = self._outbox.pace
            for outgoing in self._outbox.unsent()[:pace]:
                if self._outbox.pace != pace:
                    break
                if self._outbox.is_unsent(outgoing) and self._next_time(outgoing) <= _now():
                    await self._send(publish, outgoing)
            self._forget_settled()
            try:
                async with asyncio.timeout_at(self._next_deadline()):
                    await self._outbox.changed.wait()
            except TimeoutError:
                self._send_at_once(self._doubts.check())

    async def _send(self, publish: Publish, outgoing: OutgoingMessage) -> None:
        await publish(sending_topic(outgoing.topic) if self._trusted_send else outgoing.topic, outgoing.payload)
        if self._outbox.is_unsent(outgoing) and self._outbox.held_until <= _now():
            self._doubts.taken(outgoing.topic)
            if outgoing.id in self._pauses:
                # Unanswered, but not over the budget: it does not hold back others.
                self._outbox.quicken()
            self._due[outgoing.id] = _now() + self._pauses.setdefault(outgoing.id, Backoff(*RESEND)).pause()

    def _on_answer(self, outgoing: OutgoingMessage) -> None:
        self._doubts.answered(outgoing.topic)
        self._due.pop(outgoing.id, None)
        self._pauses.pop(outgoing.id, None)

    def _on_hold(self) -> None:
        """Sends everything again: nobody knows which of the messages were refused, and none of them is in doubt."""
        self._due.clear()
        self._pauses.clear()
        self._doubts.keep_only(set())

    def _send_at_once(self, topics: set[str]) -> None:
        for outgoing in self._outbox.unsent():
            if outgoing.topic in topics:
                self._due.pop(outgoing.id, None)

    def _next_time(self, outgoing: OutgoingMessage) -> float:
        return max(self._due.get(outgoing.id, 0.0), self._outbox.held_until)

    def _next_deadline(self) -> float | None:
        times = [self._next_time(outgoing) for outgoing in self._outbox.unsent()[: self._outbox.pace]]
        checked = self._doubts.next_time()
        end = _now() + self._outbox.next_end()
        soonest = min([*times, end] if checked is None else [*times, end, checked])
        return None if soonest == math.inf else soonest + 0.001

    def _forget_settled(self) -> None:
        """Forgets messages that were answered or given up."""
        unsent = self._outbox.unsent()
        ids = {outgoing.id for outgoing in unsent}
        self._due = {client_id: at for client_id, at in self._due.items() if client_id in ids}
        self._pauses = {client_id: pause for client_id, pause in self._pauses.items() if client_id in ids}
        self._doubts.keep_only({outgoing.topic for outgoing in unsent})


def _now() -> float:
    return asyncio.get_running_loop().time()
