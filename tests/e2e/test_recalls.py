"""Recall and edit on the running stack: two users' phones, a second device, the chat, and trusted sending."""

import json
from collections.abc import Callable, Iterator

import aiohttp
import aiomqtt
import pytest

from tests.e2e.conftest import running
from tests.e2e.stack import Service, Stack
from tests.e2e.test_chat import chat
from tests.e2e.test_groups import phone
from tests.e2e.test_messages import pulled
from tests.e2e.waiting import until

User = Callable[[], int]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from running(Stack(tmp_path_factory.mktemp("trusted"), IM_TRUSTED_SEND="true"))


async def test_two_phones(shared_stack: Stack, service: Service, user: User) -> None:
    ann, bob = user(), user()
    async with phone(shared_stack, ann) as anns, phone(shared_stack, ann) as second, phone(shared_stack, bob) as bobs:
        await anns.publish(f"single/{bob}", id="m1", type="text", body="a secret", ack=True)
        mid = (await anns.hears("im.ack"))["body"]["mid"]
        await bobs.hears("text", client_id="m1")
        await anns.publish(f"single/{bob}/edit", id="e1", mid=mid, type="text", body="better", ack=True)
        edited = await bobs.hears("im.edited")
        assert edited["body"] == {"topic": f"single/{bob}", "mid": mid, "type": "text", "body": "better"}
        assert (await pulled(service, bob, 2))[0]["payload"] == {"id": "m1", "type": "text", "body": "better"}

        await anns.publish(f"single/{bob}/recall", id="r1", mid=mid)
        told = {"topic": f"single/{bob}", "mid": mid, "by": str(ann)}
        for device, uid in ((bobs, bob), (anns, ann), (second, ann)):
            heard = await device.hears("im.recalled", f"single/{uid}")
            assert heard["body"] == told
            assert heard["key"] == (await service.page(uid))["key"]
        for uid in (ann, bob):
            message, *notices = await pulled(service, uid, 3)
            assert message["recalled"]["by"] == str(ann)
            assert "payload" not in message
            assert [notice["payload"]["type"] for notice in notices] == ["im.edited", "im.recalled"]

        await anns.publish(f"single/{bob}/edit", id="e2", mid=mid, type="text", body="again")
        assert (await anns.hears("im.error"))["body"]["code"] == "recalled"
        await bobs.publish(f"single/{bob}/recall", id="r2", mid=mid)
        assert (await bobs.hears("im.error"))["body"]["code"] == "unknown_message"
        assert not await bobs.subscribe(f"single/{bob}/recall")
        assert not await bobs.subscribe("single/+/recall")


async def test_the_last_line_of_a_chat(shared_stack: Stack, user: User) -> None:
    ann, bob = user(), user()
    lines = f"/recall\n/to {bob}\nfirst\n/edit better\nsecond\n/recall\n"
    sent = chat(shared_stack, ann, lines)
    assert sent.stdout == (
        "✗ /recall (no line was stored yet)\n"
        f"✓ {bob} first\n✓ /edit better\n✓ {bob} second\n✓ /recall\n"
    )  # fmt: skip
    shown = chat(shared_stack, bob)
    assert shown.stdout == f"{ann}: better\n{ann}: (taken back)\n"
    assert shown.returncode == 0, shown.stderr


async def test_commands_have_the_same_topics_with_trusted_sending(
    trusted: Stack, http: aiohttp.ClientSession, user: User
) -> None:
    service, ann, bob = Service(trusted, http), user(), user()
    async with phone(trusted, ann) as anns, phone(trusted, bob) as bobs:
        await anns.publish(f"send/single/{bob}", id="m1", type="text", body="a secret", ack=True)
        mid = (await anns.hears("im.ack"))["body"]["mid"]
        await anns.publish(f"single/{bob}/recall", id="r1", mid=mid)
        await bobs.hears("im.recalled")
    assert (await pulled(service, bob, 2))[0]["recalled"]["by"] == str(ann)


async def test_operators_recall_what_went_to_everybody(own_stack: Stack, http: aiohttp.ClientSession) -> None:
    """The live copy comes back through the broker's rule, and is stored once.

    On a stack of its own: everybody who uses a shared one would find these messages in every later pull.
    """
    service, ann = Service(own_stack, http), 1001

    async with aiomqtt.Client(
        "127.0.0.1", own_stack.mqtt_port, username=str(ann), password=own_stack.token(ann), identifier="ann"
    ) as client:
        await client.subscribe("business/global", qos=1)
        mid = (await service.ask("POST", "publish", {"topic": "business/global", "body": "oops"}))["mid"]
        recalled = (await service.ask("POST", "recall", {"topic": "business/global", "mid": mid}))["id"]
        while True:
            message = await anext(client.messages)
            assert isinstance(message.payload, bytes)
            told = json.loads(message.payload)
            if told.get("type") == "im.recalled":
                break
        assert told["body"] == {"topic": "business/global", "mid": mid, "by": "0"}

    async def once() -> bool | None:
        found = [each for each in await service.pull(ann) if each["topic"] == "business/global"]
        notices = [each for each in found if each.get("payload", {}).get("type") == "im.recalled"]
        assert [each["recalled"]["at"] for each in found if each["mid"] == mid] == [recalled]
        return [notice["mid"] for notice in notices if notice["payload"]["body"]["mid"] == mid] == [recalled] or None

    await until(once)
    letters = await service.admin("deadletters", limit=1000)
    assert [letter for letter in letters["deadletters"] if letter["reason"] == "reserved_type"] == []
