"""Tests that a device sends again until it is answered, and no longer than that makes sense."""

import asyncio
import math

import pytest

from emqx_im_client import MemoryState, Refused, Unanswered, doubts, sending
from emqx_im_client.backoff import Backoff
from emqx_im_client.doubts import NothingAnswered, TopicDoubts
from emqx_im_client.outbox import Outbox
from emqx_im_client.pulling import Pulling
from emqx_im_client.sending import Sender
from tests.integration.client.conftest import device, until
from tests.integration.client.service import Service


async def test_a_message_is_sent_again_until_it_is_acknowledged(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "RESEND", (0.1, 1.0))
    service.deaf = True
    async with device(service, 1001) as sender:
        sent = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: len(service.published) >= 3)
        service.deaf = False
        await asyncio.wait_for(sent, 10)
    assert len({message["id"] for message in service.published}) == 1
    assert len(service.timelines["1002"]) == 1


async def test_sending_survives_a_broker_that_goes_away(service: Service) -> None:
    async with device(service, 1001) as sender:
        await asyncio.wait_for(sender.send("single/1002", "first"), 10)
        await service.stop_broker()
        sent = asyncio.create_task(sender.send("single/1002", "second"))
        await asyncio.sleep(0)
        await service.start_broker()
        await asyncio.wait_for(sent, 20)
    assert [entry["payload"]["body"] for entry in service.timelines["1002"]] == ["first", "second"]


async def test_a_refused_message_raises_and_is_not_sent_again(service: Service) -> None:
    service.refuse.add("1002")
    async with device(service, 1001) as sender:
        with pytest.raises(Refused, match="no such user") as refused:
            await asyncio.wait_for(sender.send("single/1002", "hi"), 10)
        assert refused.value.code == "bad_topic"


async def test_a_message_without_an_answer_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "RESEND", (0.1, 0.2))
    service.deaf = True
    async with device(service, 1001, patience=0.5) as sender:
        with pytest.raises(Unanswered):
            await asyncio.wait_for(sender.send("single/1002", "hi"), 10)


async def refused(sent: "asyncio.Task[int]") -> str:
    with pytest.raises(Refused) as refusal:
        await asyncio.wait_for(sent, 10)
    return refusal.value.code


async def test_a_topic_that_is_refused_gives_up_what_waits_for_it(service: Service) -> None:
    """Permissions refuse without knowing which message it was."""
    service.denied.add("group/7")
    service.deaf = True
    async with device(service, 1001) as sender:
        waiting = [asyncio.create_task(sender.send("group/7", number)) for number in range(2)]
        other = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: bool(service.published))
        service.tell("1001", "im.error", {"ref": "", "topic": "group/7", "code": "not_a_member", "message": "no"})
        assert [await refused(sent) for sent in waiting] == ["not_a_member"] * 2
        assert not other.done()
        service.deaf = False
        service.tell("1001", "im.ack", {"id": service.published[0]["id"], "mid": 5})
        assert await asyncio.wait_for(other, 10) == 5


@pytest.mark.parametrize("code", ["bad_json", "bad_id", "payload_too_large"])
async def test_one_bad_message_without_an_id_says_nothing_about_others(service: Service, code: str) -> None:
    """All devices of a user hear the refusal of what one of them sent."""
    service.deaf = True
    async with device(service, 1001) as sender:
        sent = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: bool(service.published))
        service.tell("1001", "im.error", {"ref": "", "topic": "single/1002", "code": code, "message": "no"})
        service.tell("1001", "im.ack", {"id": service.published[0]["id"], "mid": 5})
        assert await asyncio.wait_for(sent, 10) == 5


async def test_a_topic_on_which_nothing_is_answered_is_tried_on_another_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker keeps a denial of the moment when the service was away, and says nothing: MQTT 3.1.1 cannot."""
    monkeypatch.setattr(sending, "RESEND", (0.05, 0.1))
    monkeypatch.setattr(doubts, "ANSWER", (0.3, 1.0))
    monkeypatch.setattr(doubts, "PROOF", 0.2)
    service.denied.add("group/7")
    async with device(service, 1001) as sender:
        kept_from = asyncio.create_task(sender.send("group/7", "to all"))
        await until(lambda: ("1001", "publish", "group/7") in service.questions)
        service.denied.clear()
        await asyncio.wait_for(sender.send("single/1002", "this topic works"), 10)
        await asyncio.wait_for(kept_from, 30)
    assert len(service.connects) >= 2
    assert [entry["payload"]["body"] for entry in service.timelines["group/7"]] == ["to all"]


async def test_an_unanswered_topic_is_given_longer_each_time(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the service is away for long, devices do not come again and again."""
    limits: list[float] = []

    class Watched(Backoff):
        def pause(self) -> float:
            limits.append(self._next)
            return super().pause()

    monkeypatch.setattr(doubts, "Backoff", Watched)
    monkeypatch.setattr(doubts, "ANSWER", (0.05, 0.2))
    monkeypatch.setattr(doubts, "PROOF", 0.05)
    service.deaf = True
    async with device(service, 1001) as sender:
        sent = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: len(limits) >= 5)
        sent.cancel()
    assert limits[:5] == [0.05, 0.1, 0.2, 0.2, 0.2]


async def test_a_service_that_is_away_is_waited_for_on_the_same_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another connection would not help it: it would cost a question about each topic of each device."""
    monkeypatch.setattr(sending, "RESEND", (0.05, 0.1))
    monkeypatch.setattr(doubts, "ANSWER", (0.05, 0.1))
    monkeypatch.setattr(doubts, "PROOF", 0.05)
    async with device(service, 1001) as sender:
        await until(lambda: len(service.pulls) == 1)
        service.deaf = True
        service.trouble = [(503, {})] * 1_000_000
        sent = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: len(service.pulls) >= 10 and len(service.published) >= 10)
        assert len(service.connects) == 1
        service.deaf = False
        await asyncio.wait_for(sent, 10)
        service.trouble = []
    assert len(service.connects) == 1


async def test_a_store_that_is_full_is_waited_for_on_the_same_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulls are answered and nothing is stored: that is not the connection's fault."""
    monkeypatch.setattr(sending, "RESEND", (0.05, 0.1))
    monkeypatch.setattr(doubts, "ANSWER", (0.05, 0.1))
    monkeypatch.setattr(doubts, "PROOF", 0.05)
    service.deaf = service.writes_wait = True
    async with device(service, 1001) as sender:
        sent = [asyncio.create_task(sender.send(f"single/{uid}", "hi")) for uid in (1002, 1003, 1003)]
        # Each pull after the first is a doubt that began.
        await until(lambda: len(service.pulls) >= 10 and len(service.published) >= 10)
        assert len(service.connects) == 1
        service.deaf = False
        await asyncio.wait_for(asyncio.gather(*sent), 10)
    assert len(service.connects) == 1
    assert [len(service.timelines[uid]) for uid in ("1002", "1003")] == [1, 2]


async def test_a_broker_that_has_not_taken_a_message_yet_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be busy with the questions of all devices: whether it lives is for the connection to say."""
    monkeypatch.setattr(doubts, "ANSWER", (0.02, 0.02))
    monkeypatch.setattr(doubts, "PROOF", 0.02)
    outbox = Outbox(1001, MemoryState(), 60, lambda settled: None)
    outbox.add(outbox.compose("group/7", {}))
    pulling = AlwaysAnswering()
    free = asyncio.Event()

    async def publish(topic: str, payload: str) -> None:
        await free.wait()

    sender = asyncio.create_task(Sender(outbox, TopicDoubts(pulling), trusted_send=False).keep_sending(publish))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sender), 0.3)
    free.set()
    with pytest.raises(NothingAnswered):
        await asyncio.wait_for(sender, 10)


class AlwaysAnswering(Pulling):
    def __init__(self) -> None:
        self.answered_at = math.inf
        self.writes_wait = False

    def ask(self) -> None:
        pass


async def test_what_cannot_be_sent_is_refused_at_once(service: Service) -> None:
    async with device(service, 1001) as sender:
        for topic in ("", "single/+", "#", "single/\0", "x" * 65536):
            with pytest.raises(ValueError, match="is not a topic"):
                await sender.send(topic, "hi")
        with pytest.raises(TypeError):
            await sender.send("single/1002", object())
        await asyncio.wait_for(sender.publish("single/1002", {"id": "mine", "from": "1003", "body": "hi"}), 10)
    (message,) = service.published
    assert message["from"] == "1001"
    assert message["id"] != "mine"
