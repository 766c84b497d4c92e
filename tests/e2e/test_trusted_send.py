"""Trusted sending: users publish to `send/…`, and what the broker delivers says who sent it."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from emqx_im_client import Device, MemoryState, Message, Received
from tests.e2e.clients import Mqtt, Next
from tests.e2e.conftest import running
from tests.e2e.stack import Service, Stack
from tests.e2e.test_chat import chat
from tests.e2e.test_groups import Phone, phone
from tests.e2e.test_messages import message, next_of_type, pulled

User = Callable[[], int]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from running(Stack(tmp_path_factory.mktemp("trusted"), IM_TRUSTED_SEND="true"))


@pytest.fixture
def its_service(trusted: Stack, http: aiohttp.ClientSession) -> Service:
    return Service(trusted, http)


async def wrapped(following: Next) -> dict[str, Any]:
    """Returns the next message of a user, as the broker delivers it."""
    async with asyncio.timeout(20):
        while True:
            told: dict[str, Any] = json.loads(await following())
            if "guid" in told:
                return told


async def received(device: Device, client_id: str | None = None) -> Received:
    """Returns the next message, or the one with this id."""
    async with asyncio.timeout(20):
        async for event in device:
            if isinstance(event, Received) and client_id in (None, event.message.id):
                return event
    raise AssertionError


async def test_a_live_message_says_who_sent_it_and_is_the_one_that_is_pulled(
    trusted: Stack, its_service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    payload = message("first", extra=[1.0, {"deep": None}, "é"])
    async with mqtt.listen(trusted, receiver, f"single/{receiver}") as following:
        await mqtt.publish(trusted, sender, f"send/single/{receiver}", [payload])
        told = await wrapped(following)
    assert (told["from"], told["message"]) == (str(sender), json.loads(payload))
    assert set(told) == {"from", "guid", "ts", "message"}
    (entry,) = await pulled(its_service, receiver, 1)
    assert (entry["topic"], entry["from"], entry["id"]) == (f"single/{receiver}", str(sender), "first")
    assert (entry["payload"], entry["ts"]) == (json.loads(payload), told["ts"])
    (own,) = await pulled(its_service, sender, 1)
    assert own["mid"] == entry["mid"]


@pytest.mark.parametrize(
    "payload",
    [
        bytes(range(256)) * 20,
        b"hello",
        b'{"id":"x"},"from":"1002","y":{}',
        b'["no", "object"]',
        b'{"none": "of the fields"}',
    ],
    ids=["bytes", "text", "ending the JSON around it", "list", "fields of its own"],
)
async def test_what_could_forge_the_json_around_it_travels_as_base64(
    payload: bytes, trusted: Stack, its_service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    async with mqtt.listen(trusted, receiver, f"single/{receiver}") as following:
        await mqtt.publish(trusted, sender, f"send/single/{receiver}", [payload])
        told = await wrapped(following)
    assert told["from"] == str(sender)
    assert b64decode(told["message_b64"]) == payload
    (entry,) = await pulled(its_service, receiver, 1)
    assert entry["id"] == told["guid"]
    kept = b64decode(entry["payload_b64"]) if "payload_b64" in entry else json.dumps(entry["payload"]).encode()
    assert kept == payload


async def test_nobody_else_is_heard_on_a_receivers_topic(
    trusted: Stack, its_service: Service, mqtt: Mqtt, user: User
) -> None:
    mallory, victim, receiver = user(), user(), user()
    forged = {"from": str(victim), "guid": "0", "ts": 1, "message": {"id": "forged", "body": "x"}}
    async with mqtt.listen(trusted, receiver, f"single/{receiver}") as following:
        for qos in (0, 1):
            await mqtt.publish(trusted, mallory, f"single/{receiver}", [json.dumps(forged).encode()], qos=qos)
        await mqtt.publish(trusted, mallory, f"send/single/{receiver}", [message("honest")])
        told = await wrapped(following)
    assert (told["from"], told["message"]["id"]) == (str(mallory), "honest")
    (entry,) = await pulled(its_service, receiver, 1)
    assert entry["id"] == "honest"


async def test_qos_0_is_delivered_live_and_not_stored(
    trusted: Stack, its_service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    async with mqtt.listen(trusted, receiver, f"single/{receiver}") as following:
        await mqtt.publish(trusted, sender, f"send/single/{receiver}", [message("typing")], qos=0)
        assert (await wrapped(following))["message"]["id"] == "typing"
        await mqtt.publish(trusted, sender, f"send/single/{receiver}", [message("stored")])
        assert (await wrapped(following))["message"]["id"] == "stored"
    assert [entry["id"] for entry in await pulled(its_service, receiver, 1)] == ["stored"]


async def test_a_group_hears_its_members_only(trusted: Stack, its_service: Service, mqtt: Mqtt, user: User) -> None:
    owner, member, stranger = user(), user(), user()
    topic = f"group/{uuid4().int >> 75}"
    async with phone(trusted, owner) as ann, phone(trusted, member) as bob:
        await ann.publish(f"{topic}/create", members=[member])
        assert (await bob.hears("im.group.invite"))["body"]["topic"] == topic
        assert await bob.subscribe(topic)
        await mqtt.publish(trusted, stranger, f"send/{topic}", [message("stranger")])
        await mqtt.publish(trusted, owner, topic, [message("past the broker")])
        await mqtt.publish(trusted, owner, f"send/{topic}", [message("member")])
        assert (await _heard(bob, topic))["message"]["id"] == "member"
        assert {told["from"] for on, told in bob.heard if on == topic} == {str(owner)}
    ids = [entry["id"] for entry in await its_service.pull(member) if entry["topic"] == topic]
    assert ids == ["member"]


async def _heard(device: Phone, topic: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            for on, told in device.heard:
                if on == topic and "guid" in told:
                    return told
            await asyncio.sleep(0.02)


async def test_refusals_and_acknowledgements_reach_the_sender(
    trusted: Stack, its_service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    async with mqtt.listen(trusted, sender, f"single/{sender}") as following:
        await mqtt.publish(trusted, sender, f"send/single/{receiver}", [message("no", **{"from": "1"})])
        assert (await next_of_type(following, "im.error"))["body"]["ref"] == "no"
        await mqtt.publish(trusted, sender, f"send/single/{receiver}", [message("yes", ack=True)])
        assert (await next_of_type(following, "im.ack"))["body"]["id"] == "yes"


async def test_the_library_knows_live_and_pulled_copies_for_one(trusted: Stack, mqtt: Mqtt, user: User) -> None:
    ann, bob = user(), user()
    state = MemoryState()
    async with trusted.device(ann, MemoryState()) as device, trusted.device(bob, state) as other:
        mid = await device.send(f"single/{bob}", {"text": "hi"})
        assert mid > 0
        first = await received(other)
        assert first.confirmed
        assert (first.message.sender, first.message.body) == (str(ann), {"text": "hi"})
        await mqtt.publish(trusted, ann, f"send/single/{bob}", [b"\xff bytes"])
        raw = await received(other)
        assert (raw.confirmed, raw.message.sender, raw.message.payload) == (True, str(ann), b"\xff bytes")
        acting = message("act", **{"type": "im.group.kicked"})
        await mqtt.publish(trusted, ann, f"send/single/{bob}", [acting, message("last")])
        last = await received(other)
        assert last.message.id == "last"
    # Another run pulls what it had live, and tells none of it again.
    async with trusted.device(ann, MemoryState()) as device, trusted.device(bob, state) as other:
        await device.send(f"single/{bob}", {"text": "end"})
        assert (await received(other)).message.body == {"text": "end"}


async def test_chat_finds_out_by_itself(trusted: Stack, its_service: Service, user: User) -> None:
    ann, bob = user(), user()
    told = await asyncio.to_thread(chat, trusted, ann, "hello bob\n", f"--to={bob}")
    assert "✓" in told.stdout
    (entry,) = await pulled(its_service, bob, 1)
    assert entry["payload"]["body"] == {"text": "hello bob"}


async def test_without_the_setting_nothing_goes_through_send(
    shared_stack: Stack, service: Service, mqtt: Mqtt, user: User
) -> None:
    sender, receiver = user(), user()
    async with mqtt.listen(shared_stack, receiver, f"single/{receiver}") as following:
        await mqtt.publish(shared_stack, sender, f"send/single/{receiver}", [message("trusted")])
        await mqtt.publish(shared_stack, sender, f"single/{receiver}", [message("direct")])
        assert (await next_of_type(following, "text"))["id"] == "direct"
    assert [entry["id"] for entry in await pulled(service, receiver, 1)] == ["direct"]


def test_a_wrapper_of_the_library_is_only_that_of_the_broker() -> None:
    """Nothing that the REST API or the service publishes counts as a user's, however it looks."""
    from emqx_im_client.trusted import delivered, sending_topic

    told = {"from": "1001", "guid": "G", "ts": 5}
    for content in ({}, {"message": "text"}, {"message_b64": "no base64"}, {"message_b64": 7}):
        assert delivered("single/1", json.dumps({**told, **content}).encode(), 1) is None
    assert delivered("business/global", json.dumps({**told, "message": {}}).encode(), 1) is None
    coded = {**told, "message_b64": b64encode(b'{"x": 1}').decode()}
    assert delivered("group/7", json.dumps(coded).encode(), 1) == Message("group/7", "1001", "G", 1, {"x": 1}, 5)
    assert sending_topic("group/7/create") == "group/7/create"
