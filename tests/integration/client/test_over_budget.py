"""Tests a device whose user has sent too much, as the service says: the budget is the user's, not a topic's."""

import asyncio
import math
from collections.abc import Callable

import pytest

from emqx_im_client import MemoryState, Refused, Settled, doubts, sending
from emqx_im_client.doubts import TopicDoubts
from emqx_im_client.outbox import Outbox
from emqx_im_client.pulling import Pulling
from emqx_im_client.sending import Sender
from emqx_im_client.state import OutgoingMessage
from tests.integration.client.conftest import device, received, until
from tests.integration.client.service import Service

PATIENCE = 60.0


def rate(ref: str, seconds: float) -> dict[str, object]:
    return {"ref": ref, "code": "rate", "message": "too much", "retry_after": seconds}


async def test_a_message_over_the_budget_is_sent_again_when_the_service_says(service: Service) -> None:
    service.budget = [0.2, 0.1]
    async with device(service, 1001) as sender:
        await asyncio.wait_for(sender.send("single/1002", "hi"), 10)
    assert [message["body"] for message in service.published] == ["hi"] * 3
    assert len({message["id"] for message in service.published}) == 1


async def refused(sent: "asyncio.Task[int]") -> str:
    with pytest.raises(Refused) as refusal:
        await asyncio.wait_for(sent, 10)
    return refusal.value.code


async def test_over_the_budget_nothing_is_sent_whatever_the_topic(service: Service) -> None:
    """Also where it was another device that used it up. A message that waits until it is given up was refused."""
    async with device(service, 1001, patience=0.5) as sender:
        await until(lambda: len(service.pulls) == 1)
        service.tell("1001", "im.error", rate("of another device", 3600))
        # Deliveries keep their order: once this is heard, so is the refusal.
        service.publish("single/1001", {"id": "m1", "from": "1002", "type": "text", "body": "hi"})
        await received(sender)
        held = [asyncio.create_task(sender.send(f"single/{uid}", "held")) for uid in (1002, 1003)]
        assert [await refused(sent) for sent in held] == ["rate", "rate"]
    assert service.published == []


class AlwaysAnswering(Pulling):
    def __init__(self) -> None:
        self.answered_at = math.inf
        self.writes_wait = False

    def ask(self) -> None:
        pass


class Budgeted:
    """A sender with ten messages to ten topics. published: topics, and when the broker took a message for each."""

    def __init__(self, answer: Callable[["Budgeted", OutgoingMessage], None]) -> None:
        self.settled: list[Settled] = []
        self.published: list[tuple[str, float]] = []
        self.outbox = Outbox(1001, MemoryState(), PATIENCE, self.settled.append)
        self.messages = [self.outbox.compose(f"single/{uid}", {}) for uid in range(1002, 1012)]
        for message in self.messages:
            self.outbox.add(message)
        self._answer = answer

    async def send_until(self, condition: Callable[[], bool]) -> None:
        """Raises what the sender raises."""
        sender = Sender(self.outbox, TopicDoubts(AlwaysAnswering()), trusted_send=False)
        sending = asyncio.create_task(sender.keep_sending(self._publish))
        try:
            await until(lambda: sending.done() or condition())
            if sending.done():
                sending.result()
        finally:
            sending.cancel()

    async def _publish(self, topic: str, payload: str) -> None:
        self.published.append((topic, asyncio.get_running_loop().time()))
        self._answer(self, next(message for message in self.messages if message.topic == topic))

    def all_settled(self) -> bool:
        return len(self.settled) == len(self.messages)


async def test_messages_that_were_refused_untold_are_neither_doubted_nor_sent_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service tells one refusal a second. Refusals say nothing about the connection."""
    monkeypatch.setattr(sending, "RESEND", (0.01, 0.02))
    monkeypatch.setattr(doubts, "ANSWER", (0.05, 0.05))
    monkeypatch.setattr(doubts, "PROOF", 0.02)

    def answer(budgeted: Budgeted, message: OutgoingMessage) -> None:
        if len(budgeted.published) == 10:
            budgeted.outbox.refused(rate(budgeted.messages[0].id, 0.5))
        elif len(budgeted.published) > 10:
            budgeted.outbox.acknowledged({"id": message.id, "mid": 5})

    budgeted = Budgeted(answer)
    await budgeted.send_until(budgeted.all_settled)
    assert budgeted.published[10][1] - budgeted.published[9][1] >= 0.5
    assert len(budgeted.published) == 20


async def test_what_was_held_goes_on_with_one_message_and_then_with_more() -> None:
    def answer(budgeted: Budgeted, message: OutgoingMessage) -> None:
        if 10 <= len(budgeted.published) < 13:
            budgeted.outbox.refused(rate(message.id, 0.05))
        elif len(budgeted.published) >= 13 and message is not budgeted.messages[9]:
            budgeted.outbox.acknowledged({"id": message.id, "mid": 5})

    budgeted = Budgeted(answer)
    await budgeted.send_until(lambda: len(budgeted.settled) == 9)
    first = budgeted.messages[0].topic
    assert [topic for topic, _ in budgeted.published[10:14]] == [first, first, first, budgeted.messages[1].topic]
    assert len(budgeted.published) <= 10 + 2 + 10


async def test_what_was_stored_before_the_refusal_says_nothing_about_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its acknowledgement may come after the refusal, and lets no more than one message go on."""
    monkeypatch.setattr(sending, "RESEND", (0.05, 0.05))

    def answer(budgeted: Budgeted, message: OutgoingMessage) -> None:
        if len(budgeted.published) == 10:
            budgeted.outbox.refused(rate(budgeted.messages[5].id, 0.05))
            budgeted.outbox.acknowledged({"id": budgeted.messages[0].id, "mid": 5})

    budgeted = Budgeted(answer)
    await budgeted.send_until(lambda: len(budgeted.published) >= 12)
    assert [topic for topic, _ in budgeted.published[10:12]] == [budgeted.messages[1].topic] * 2


async def test_an_unanswered_message_does_not_keep_back_what_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that it is over the budget: the broker may have dropped it."""
    monkeypatch.setattr(sending, "RESEND", (0.05, 0.05))

    def answer(budgeted: Budgeted, message: OutgoingMessage) -> None:
        if len(budgeted.published) == 10:
            budgeted.outbox.refused(rate(message.id, 0.05))
        elif len(budgeted.published) > 10 and message is not budgeted.messages[0]:
            budgeted.outbox.acknowledged({"id": message.id, "mid": 5})

    budgeted = Budgeted(answer)
    await budgeted.send_until(lambda: len(budgeted.settled) == 9)
