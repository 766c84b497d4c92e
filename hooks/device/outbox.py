"""Messages on their way: sent again until the service acknowledges or refuses them."""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

import aiomqtt
import orjson

from hooks.device.backoff import Backoff
from hooks.device.cancellation import heed_cancellation
from hooks.device.errors import Refused, Unanswered
from hooks.device.events import Settled
from hooks.device.state import Outgoing, State

RESEND = (4.0, 60.0)
"""Seconds until a message is sent again: the first pause, and the longest."""


class Outbox:
    """patience: seconds until a message is given up, less than the service recognises repeats."""

    def __init__(self, uid: int, state: State, patience: float, tell: Callable[[Settled], None]) -> None:
        self._uid = uid
        self._state = state
        self._patience = patience
        self._tell = tell
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._added = asyncio.Event()
        self._settled = asyncio.Event()

    def compose(self, topic: str, fields: dict[str, object]) -> Outgoing:
        client_id = str(uuid4())
        payload = {"id": client_id, "from": str(self._uid), **fields, "ack": True}
        return Outgoing(client_id, topic, orjson.dumps(payload).decode(), time.time())

    def add(self, outgoing: Outgoing) -> None:
        self._state.saved.unsent[outgoing.id] = outgoing
        self._state.save()
        self._added.set()

    async def answer(self, outgoing: Outgoing) -> int:
        """The message's `mid`. Raises Refused or Unanswered. Cancelled, the message is sent all the same."""
        self._waiting[outgoing.id] = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting[outgoing.id]
        finally:
            self._waiting.pop(outgoing.id, None)

    def settle(self, client_id: str, outcome: int | Refused | Unanswered) -> None:
        """Ends a message's way; unknown ids are answers to a resend of what was answered already."""
        outgoing = self._state.saved.unsent.pop(client_id, None)
        if outgoing is None:
            return
        self._state.save()
        self._settled.set()
        future = self._waiting.get(client_id)
        if future is None or future.done():
            self._tell(Settled(client_id, outgoing.topic, outcome))
        elif isinstance(outcome, int):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    async def empty(self) -> None:
        """Waits until nothing is unsent, of earlier runs too."""
        while self._state.saved.unsent:
            self._settled.clear()
            await self._settled.wait()

    def fail(self, failure: Exception) -> None:
        """The device gives up: who waits is told, the messages stay for the next run."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(failure)

    async def keep_sending(self, client: aiomqtt.Client, to: Callable[[str], str]) -> None:
        """On one connection: everything unsent at once and in order, then each again with growing pauses.

        to: where a message for a topic is published.
        """
        clock = asyncio.get_running_loop().time
        due: dict[str, float] = {}
        pauses: dict[str, Backoff] = {}
        while True:
            self._added.clear()
            for outgoing in list(self._state.saved.unsent.values()):
                if time.time() - outgoing.created > self._patience:
                    self.settle(outgoing.id, Unanswered(f"no answer to {outgoing.id} in {self._patience:.0f} s"))
                elif due.get(outgoing.id, 0) <= clock():
                    await client.publish(to(outgoing.topic), outgoing.payload, qos=1)
                    heed_cancellation()
                    due[outgoing.id] = clock() + pauses.setdefault(outgoing.id, Backoff(*RESEND)).pause()
            unsent = self._state.saved.unsent
            due = {client_id: at for client_id, at in due.items() if client_id in unsent}
            pauses = {client_id: pause for client_id, pause in pauses.items() if client_id in unsent}
            try:
                async with asyncio.timeout_at(min(due.values(), default=None)):
                    await self._added.wait()
            except TimeoutError:
                continue
