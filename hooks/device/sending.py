"""Sending on one connection: everything unsent at once and in order, then each again until it is answered."""

import asyncio
from collections.abc import Awaitable, Callable

from hooks.device.backoff import Backoff
from hooks.device.outbox import Outbox
from hooks.device.state import Outgoing
from hooks.device.trusted import sending_topic

RESEND = (4.0, 60.0)
"""Seconds until a message is sent again: the first pause, and the longest."""

ANSWER = (40.0, 900.0)
"""Seconds without any answer about a topic after which the device connects anew: the first time, and the longest."""

Publish = Callable[[str, str], Awaitable[None]]
"""Takes topic and payload; returns when the broker has them."""


class NothingAnswered(Exception):
    """The broker takes what is sent, and the service does not hear of it: only another connection can help.

    EMQX keeps for an hour what it decided about a connection, and MQTT 3.1.1 does not tell who is refused.
    """


class Sender:
    """One for all connections of a device: a topic that stays unanswered is given longer each time.

    trusted_send: messages are published to `send/…`.
    """

    def __init__(self, outbox: Outbox, *, trusted_send: bool) -> None:
        self._outbox = outbox
        self._trusted_send = trusted_send
        self._patience: dict[str, Backoff] = {}
        self._deadlines: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._pauses: dict[str, Backoff] = {}
        outbox.on_answer = self._on_answer

    async def keep_sending(self, publish: Publish) -> None:
        """Sends on a new connection until it ends. Raises NothingAnswered, and what `publish` raises."""
        self._deadlines, self._due, self._pauses = {}, {}, {}
        while True:
            self._outbox.changed.clear()
            for outgoing in self._outbox.unsent():
                if self._outbox.is_unsent(outgoing) and self._next_time(outgoing) <= _now():
                    await self._send(publish, outgoing)
            self._forget_settled()
            try:
                async with asyncio.timeout_at(self._next_deadline()):
                    await self._outbox.changed.wait()
            except TimeoutError:
                self._check_deadlines()

    async def _send(self, publish: Publish, outgoing: Outgoing) -> None:
        if outgoing.topic not in self._deadlines:
            longer = self._patience.setdefault(outgoing.topic, Backoff(*ANSWER))
            self._deadlines[outgoing.topic] = _now() + longer.pause()
        try:
            async with asyncio.timeout_at(min(self._deadlines.values())):
                topic = sending_topic(outgoing.topic) if self._trusted_send else outgoing.topic
                await publish(topic, outgoing.payload)
        except TimeoutError:
            self._check_deadlines()
            return
        self._due[outgoing.id] = _now() + self._pauses.setdefault(outgoing.id, Backoff(*RESEND)).pause()

    def _on_answer(self, outgoing: Outgoing) -> None:
        """This connection carries what is sent to the topic."""
        self._deadlines.pop(outgoing.topic, None)
        self._patience.pop(outgoing.topic, None)
        self._due.pop(outgoing.id, None)
        self._pauses.pop(outgoing.id, None)

    def _check_deadlines(self) -> None:
        for topic, deadline in self._deadlines.items():
            if deadline <= _now():
                raise NothingAnswered(f"nothing that is sent to {topic} is answered")

    def _next_time(self, outgoing: Outgoing) -> float:
        return max(self._due.get(outgoing.id, 0.0), self._outbox.held_until(outgoing.topic))

    def _next_deadline(self) -> float | None:
        times = [self._next_time(outgoing) for outgoing in self._outbox.unsent()]
        return min([*times, *self._deadlines.values()], default=None)

    def _forget_settled(self) -> None:
        """Nothing more is expected about what was answered or given up."""
        unsent = self._outbox.unsent()
        ids, topics = {outgoing.id for outgoing in unsent}, {outgoing.topic for outgoing in unsent}
        self._due = {client_id: at for client_id, at in self._due.items() if client_id in ids}
        self._pauses = {client_id: pause for client_id, pause in self._pauses.items() if client_id in ids}
        self._deadlines = {topic: at for topic, at in self._deadlines.items() if topic in topics}
        self._patience = {topic: longer for topic, longer in self._patience.items() if topic in topics}


def _now() -> float:
    return asyncio.get_running_loop().time()
