"""The reference client against a broker that is real and a store that misbehaves on demand."""

import asyncio
from copy import deepcopy

import pytest

from emqx_im_client import MemoryState, Settled, pulling
from emqx_im_client.state import Saved
from tests.integration.client.conftest import device, nothing, received, until
from tests.integration.client.service import Service


async def test_what_was_missed_comes_in_order_over_many_pages(service: Service) -> None:
    service.page = 3
    for number in range(10):
        service.store("1002", "1001", f"m{number}")
    async with device(service, 1002) as reader:
        assert [(await received(reader)).message.id for _ in range(10)] == [f"m{number}" for number in range(10)]


async def test_a_message_is_sent_acknowledged_and_received_once(service: Service) -> None:
    async with device(service, 1001) as sender, device(service, 1002) as reader:
        await until(lambda: len(service.pulls) >= 2)
        mid = await asyncio.wait_for(sender.send("single/1002", {"text": "hi"}), 10)
        live = await received(reader)
        assert not live.confirmed
        assert live.message.body == {"text": "hi"}
        assert live.message.sender == "1001"
        service.tell("1002", "im.sync", {"head": mid, "reason": "late"})
        await nothing(reader)


async def test_own_messages_do_not_come_back(service: Service) -> None:
    async with device(service, 1001) as sender:
        await asyncio.wait_for(sender.send("single/1001", "to myself"), 10)
        await nothing(sender)


async def test_live_messages_wait_behind_the_pull(service: Service) -> None:
    service.store("1002", "1001", "old")
    service.pull_gate.clear()
    async with device(service, 1002) as reader, device(service, 1001) as sender:
        sending = asyncio.create_task(sender.send("single/1002", "new"))
        await until(lambda: bool(service.published))
        service.pull_gate.set()
        first, second = await received(reader), await received(reader)
        assert first.message.id == "old"
        assert second.message.body == "new"
        await asyncio.wait_for(sending, 10)


async def test_what_an_earlier_run_left_is_sent_and_its_outcome_told(service: Service) -> None:
    service.deaf = True
    state = MemoryState()
    async with device(service, 1001, state) as sender:
        sending = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: bool(service.published))
        sending.cancel()
    service.deaf = False
    async with device(service, 1001, state) as sender:
        event = await asyncio.wait_for(anext(sender), 10)
    assert event == Settled(service.published[0]["id"], "single/1002", service.timelines["1002"][0]["mid"])
    assert not state.saved.unsent


async def test_what_an_earlier_run_left_does_not_come_back_when_it_is_pulled(service: Service) -> None:
    """The earlier run ended the moment the message was saved."""
    saved: list[Saved] = []

    class EndsWhenSaved(MemoryState):
        def save(self) -> None:
            if self.saved.unsent and not saved:
                saved.append(deepcopy(self.saved))

    service.deaf = True
    async with device(service, 1001, EndsWhenSaved()) as sender:
        sending = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: bool(saved))
        sending.cancel()
    service.deaf = False
    state = MemoryState()
    state.saved = saved[0]
    (unsent,) = state.saved.unsent.values()
    service.store("1001", "1001", unsent.id, topic="single/1002")
    async with device(service, 1001, state) as sender:
        assert isinstance(await asyncio.wait_for(anext(sender), 10), Settled)
        await nothing(sender)


async def test_control_messages_without_the_secret_are_ignored(service: Service) -> None:
    service.deaf = True
    async with device(service, 1001) as sender:
        sending = asyncio.create_task(sender.send("single/1002", "hi"))
        await until(lambda: bool(service.published))
        ref = service.published[0]["id"]
        service.tell("1001", "im.ack", {"id": ref, "mid": 1}, secret="forged")
        service.tell("1001", "im.group.kicked", {"gid": "7"}, secret="forged")
        await nothing(sender)
        assert not sending.done()
        service.tell("1001", "im.ack", {"id": ref, "mid": 5})
        assert await asyncio.wait_for(sending, 10) == 5


async def test_topics_told_by_the_service_are_heard_and_pulled_again(service: Service) -> None:
    async with device(service, 1002) as reader:
        await until(lambda: len(service.pulls) == 1)
        service.tell("1002", "im.subscribe", {"topics": [{"topic": "group/7", "qos": 1}], "head": 0})
        await until(lambda: len(service.pulls) == 2)
        service.publish("group/7", {"id": "g1", "from": "1001", "body": "all"})
        assert (await received(reader)).message.topic == "group/7"
        service.tell("1002", "im.unsubscribe", {"topics": [{"topic": "group/7"}]})
        service.tell("1002", "im.group.left", {"gid": "7"})
        left = await received(reader)
        assert left.confirmed
        assert left.message.type == "im.group.left"
        (session,) = service.broker.sessions.values()
        await until(lambda: "group/7" not in session.subscriptions)
        service.publish("group/7", {"id": "g2", "from": "1001", "body": "all"})
        await nothing(reader)


async def test_what_was_stored_just_after_the_first_pull_is_found(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker had routed it just before it knew of the subscription, and nobody tells of it."""
    monkeypatch.setattr(pulling, "AGAIN_AFTER", 0.5)
    async with device(service, 1002) as reader:
        await until(lambda: len(service.pulls) == 1)
        service.store("1002", "1001", "m1")
        assert (await received(reader)).message.id == "m1"


async def test_what_was_stored_just_after_the_pull_of_a_later_subscription_is_found(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with device(service, 1002) as reader:
        await until(lambda: len(service.pulls) == 1)
        monkeypatch.setattr(pulling, "AGAIN_AFTER", 0.5)
        service.tell("1002", "im.subscribe", {"topics": [{"topic": "group/7", "qos": 1}]})
        await until(lambda: len(service.pulls) == 2)
        service.store("1002", "1001", "m1")
        assert (await received(reader)).message.id == "m1"


async def test_a_device_that_is_up_to_date_does_not_pull_again_after_it_came(service: Service) -> None:
    """Its list has nothing that it does not hear already, and no head above its cursor."""
    head = service.store("1002", "1001", "m1")
    topics = [{"topic": "business/global", "qos": 1}]
    async with device(service, 1002) as reader:
        await received(reader)
        service.tell("1002", "im.subscribe", {"topics": topics, "head": head})
        await nothing(reader)
        assert len(service.pulls) == 1
        service.store("1002", "1001", "m2")
        service.tell("1002", "im.subscribe", {"topics": topics, "head": head + 1})
        assert (await received(reader)).message.id == "m2"


async def test_a_sync_below_the_cursor_is_not_followed(service: Service) -> None:
    mid = service.store("1002", "1001", "m1")
    async with device(service, 1002) as reader:
        await received(reader)
        service.tell("1002", "im.sync", {"head": mid, "reason": "dropped"})
        await nothing(reader)
        assert len(service.pulls) == 1
        service.store("1002", "1001", "m2")
        service.tell("1002", "im.sync", {"head": mid + 1, "reason": "dropped"})
        assert (await received(reader)).message.id == "m2"


async def test_a_pull_that_is_refused_for_now_is_repeated(service: Service) -> None:
    service.store("1002", "1001", "m1")
    service.trouble = [(503, {"Retry-After": "1"}), (429, {}), (500, {})]
    start = asyncio.get_running_loop().time()
    async with device(service, 1002) as reader:
        assert (await received(reader)).message.id == "m1"
    assert asyncio.get_running_loop().time() - start >= 1
    assert len(service.pulls) == 4


async def test_live_messages_do_not_wait_long_for_a_service_that_is_away(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "HOLD", 0.5)
    service.trouble = [(503, {"Retry-After": "30"})]
    async with device(service, 1002) as reader:
        await until(lambda: len(service.pulls) == 1)
        service.publish("single/1002", {"id": "m1", "from": "1001"})
        assert (await received(reader)).message.id == "m1"


async def test_another_epoch_shows_nothing_again(service: Service) -> None:
    service.store("1002", "1001", "m1")
    state = MemoryState()
    async with device(service, 1002, state) as reader:
        await received(reader)
        await nothing(reader)
    service.epoch = "second"
    service.store("1002", "1001", "m2")
    async with device(service, 1002, state) as reader:
        assert (await received(reader)).message.id == "m2"
        await nothing(reader)
    assert service.pulls[-1]["epoch"] == "first"
    assert state.saved.position.epoch == "second"


async def test_a_device_ends_whatever_it_is_doing(service: Service) -> None:
    for _ in range(20):
        async with asyncio.timeout(10), device(service, 1001) as sender:
            sending = asyncio.create_task(sender.send("single/1002", "hi"))
            await until(lambda: bool(service.published))
            service.published.clear()
        sending.cancel()
