"""Messages on their way: kept until the service acknowledges or refuses them."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson

from emqx_im_client.errors import Refused, Unanswered
from emqx_im_client.events import Settled
from emqx_im_client.state import OutgoingMessage, State
from emqx_im_client.topics import is_topic
from emqx_im_client.trusted import receiver_topic

RATE_PAUSE = 30.0
"""Seconds until anything is sent again after a message was over the sender's budget, where the service does not say."""

_ABOUT_ONE_MESSAGE = frozenset(
    {"bad_command", "bad_id", "bad_json", "bad_type", "internal", "payload_too_large", "reserved_type", "wrong_from"}
)
"""Codes that say nothing about other messages to the same topic. All devices of a user hear a refusal."""


class Outbox:
    """Holds messages that are not answered yet, and the callers that wait for the answer.

    patience: seconds until a message is given up, less than the service recognises repeats.
    """

    def __init__(self, uid: int, state: State, patience: float, tell: Callable[[Settled], None]) -> None:
        self.changed = asyncio.Event()
        """Set when there is something to send, or it has to wait."""
        self.on_answer: Callable[[OutgoingMessage], None] = lambda outgoing: None
        """Called with each message that the service acknowledges, or refuses for good."""
        self.on_hold: Callable[[], None] = lambda: None
        """Called when nothing is to be sent for some time: the service refuses more than it tells."""
        self.on_stored: Callable[[OutgoingMessage, int], None] = lambda outgoing, mid: None
        """Called with each message that the service acknowledges, and its `mid`."""
        self.held_until = 0.0
        """The time of the event loop before which nothing is sent: the service said so."""
        self.pace: int | None = None
        """How many of the first unsent messages may be on their way; None: all. It grows again after a hold."""
        self._uid = uid
        self._state = state
        self._patience = patience
        self._tell = tell
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self._over_budget: Refused | None = None
        """Why messages wait, while the pace is bounded."""
        self._settled = asyncio.Event()
        self._ends: dict[str, float] = {}
        """When messages are given up, by a clock that never goes back."""

    def compose(self, topic: str, fields: dict[str, Any]) -> OutgoingMessage:
        """Makes a message of the fields. Raises ValueError for a topic that nobody can publish to."""
        if not is_topic(topic):
            raise ValueError(f"{topic!r} is not a topic to publish to")
        client_id = str(uuid4())
        payload: dict[str, Any] = {"id": client_id, "from": str(self._uid)}
        payload |= {**fields, **payload, "ack": True}
        return OutgoingMessage(client_id, topic, orjson.dumps(payload).decode(), time.time())

    def add(self, outgoing: OutgoingMessage) -> None:
        """Raises what the state raises where the message cannot be kept; then it is not sent."""
        self._state.saved.unsent[outgoing.id] = outgoing
        try:
            self._state.save()
        except BaseException:
            del self._state.saved.unsent[outgoing.id]
            raise
        self.changed.set()

    async def answer(self, outgoing: OutgoingMessage) -> int:
        """Returns the message's `mid`. Raises Refused or Unanswered. Cancelled, the message is sent all the same."""
        self._waiting[outgoing.id] = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting[outgoing.id]
        finally:
            self._waiting.pop(outgoing.id, None)

    def acknowledged(self, body: dict[str, Any]) -> None:
        """Takes the body of an `im.ack`."""
        self._answered(body["id"], int(body["mid"]))

    def refused(self, body: dict[str, Any]) -> None:
        """Takes the body of an `im.error`; without a `ref` it is about everything that waits for its `topic`."""
        refused = Refused(str(body["code"]), str(body.get("message", "")))
        if refused.code == "rate":
            self._hold(body.get("retry_after"), refused)
            return
        if body.get("ref"):
            ids = [str(body["ref"])]
        elif isinstance(body.get("topic"), str) and refused.code not in _ABOUT_ONE_MESSAGE:
            topic = receiver_topic(body["topic"])
            ids = [each.id for each in self.unsent() if receiver_topic(each.topic) == topic]
        else:
            ids = []
        for client_id in ids:
            self._answered(client_id, refused)

    def unsent(self) -> list[OutgoingMessage]:
        """Returns what is to be sent, in order; gives up what has waited for too long."""
        for outgoing in list(self._state.saved.unsent.values()):
            if self._is_over(outgoing):
                unanswered = Unanswered(f"no answer to {outgoing.id} in {self._patience:.0f} s")
                self._settle(outgoing.id, self._over_budget or unanswered)
        return list(self._state.saved.unsent.values())

    def _is_over(self, outgoing: OutgoingMessage) -> bool:
        """Says whether it is given up. One clock is set wrongly at times, the other stops while a machine sleeps."""
        age, now = time.time() - outgoing.created, time.monotonic()
        return age > self._patience or now > self._ends.setdefault(outgoing.id, now + self._patience - max(0.0, age))

    def next_end(self) -> float:
        """Returns in how many seconds the next message is given up."""
        return min(self._ends.values(), default=math.inf) - time.monotonic()

    def is_unsent(self, outgoing: OutgoingMessage) -> bool:
        return outgoing.id in self._state.saved.unsent

    def quicken(self) -> None:
        """Lets one more message be on its way: nothing says that the sender is still over the budget."""
        if self.pace is None or self.held_until > asyncio.get_running_loop().time():
            return
        self.pace += 1
        if self.pace > len(self._state.saved.unsent):
            self.pace = self._over_budget = None
        self.changed.set()

    async def empty(self) -> None:
        """Waits until nothing is unsent, of earlier runs too."""
        while self._state.saved.unsent:
            self._settled.clear()
            await self._settled.wait()

    def fail(self, failure: Exception) -> None:
        """Gives up: callers that wait are told, and the messages stay for the next run."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(failure)

    def _hold(self, retry_after: object, refused: Refused) -> None:
        """Keeps everything for so many seconds: the budget is the user's, whatever the topic and the device."""
        seconds = retry_after if isinstance(retry_after, int | float) and retry_after > 0 else RATE_PAUSE
        until = asyncio.get_running_loop().time() + seconds
        self.held_until = max(until, self.held_until)
        self._over_budget = refused
        self.pace = 1
        self.on_hold()
        self.changed.set()

    def _answered(self, client_id: str, outcome: int | Refused) -> None:
        outgoing = self._state.saved.unsent.get(client_id)
        if outgoing is not None:
            self.on_answer(outgoing)
            self._settle(client_id, outcome)
            self.quicken()

    def _settle(self, client_id: str, outcome: int | Refused | Unanswered) -> None:
        """Settles a message. The caller is told even if that cannot be saved: a later run only asks once more."""
        outgoing = self._state.saved.unsent.pop(client_id)
        self._ends.pop(client_id, None)
        if isinstance(outcome, int):
            self.on_stored(outgoing, outcome)
        self._settled.set()
        future = self._waiting.get(client_id)
        if future is None or future.done():
            self._tell(Settled(client_id, outgoing.topic, outcome))
        elif isinstance(outcome, int):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
        self._state.save()
