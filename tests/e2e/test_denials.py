"""Publishes that the broker denies: acknowledged, not stored, and told to their sender on the same connection."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import running
from tests.e2e.stack import Stack
from tests.e2e.test_groups import Phone, phone
from tests.e2e.waiting import until

User = Callable[[], int]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from running(Stack(tmp_path_factory.mktemp("trusted"), IM_TRUSTED_SEND="true"))


def denials(device: Phone, topic: str) -> list[str]:
    """Returns the codes with which the device was told of the topic."""
    errors = [payload["body"] for _, payload in device.heard if payload.get("type") == "im.error"]
    return [body["code"] for body in errors if (body["ref"], body.get("topic")) == ("", topic)]


async def told(device: Phone, topic: str, count: int = 1) -> list[str]:
    async def enough() -> list[str] | None:
        return found if len(found := denials(device, topic)) >= count else None

    return await until(enough)


async def test_who_was_kicked_is_told_at_every_connection(shared_stack: Stack, user: User) -> None:
    owner, kicked = user(), user()
    topic = f"group/{user()}{owner}"
    async with phone(shared_stack, owner) as makes, phone(shared_stack, kicked, "phone") as device:
        await makes.publish(f"{topic}/create", members=[kicked])
        await device.hears("im.group.invite")
        await device.publish(topic, type="text", body="a member's")
        await makes.publish(f"{topic}/kick", members=[kicked])
        await device.hears("im.group.kicked")
        # The broker forgets what it kept, too; until then it delivers and the hook refuses, by the message's id.
        while not denials(device, topic):
            await device.publish(topic, type="text", body="nobody's")
            await asyncio.sleep(0.1)
        assert denials(device, topic) == ["not_a_member"]
        # It asks no more for this connection, until it is told to forget that as well.
        while len(denials(device, topic)) < 2:
            await device.publish(topic, type="text", body="nobody's")
            await asyncio.sleep(0.1)
    async with phone(shared_stack, kicked, "phone") as device:
        await device.publish(topic, type="text", body="nobody's")
        assert await told(device, topic) == ["not_a_member"]


@pytest.mark.parametrize(
    ("topic", "code"),
    [("group/4711", "unknown_group"), ("business/x", "unknown_topic"), ("business/global", "not_an_operator")],
)
async def test_what_nobody_can_hear(shared_stack: Stack, user: User, topic: str, code: str) -> None:
    async with phone(shared_stack, user()) as device:
        await device.publish(topic, type="text", body="nobody's")
        assert await told(device, topic) == [code]


async def test_with_trusted_sending_who_sends_the_other_way_is_told(trusted: Stack, user: User) -> None:
    sender, receiver = user(), user()
    async with phone(trusted, sender) as device, phone(trusted, receiver) as other:
        for topic in (f"single/{receiver}", "group/4711"):
            await device.publish(topic, type="text", body="forged")
            assert await told(device, topic) == ["unknown_topic"]
        await device.publish("send/group/4711", type="text", body="nobody's")
        assert await told(device, "group/4711", 2) == ["unknown_topic", "unknown_group"]
        await device.publish(f"send/single/{receiver}", type="text", body="honest")

        async def heard() -> bool | None:
            return any("guid" in payload for _, payload in other.heard) or None

        await until(heard)
        assert "forged" not in str(other.heard)
