"""Tags and business messages as operators and users meet them: real MQTT clients on the running stack."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from tests.e2e.clients import Aiomqtt, Mosquitto
from tests.e2e.stack import Service, Stack
from tests.e2e.test_groups import Phone, phone, send
from tests.e2e.waiting import until

User = Callable[[], int]


class Operator(Service):
    """Asks `/admin`, and publishes as EMQX's dashboard does."""

    async def publish_through_the_broker(self, topic: str, payload: dict[str, Any], qos: int = 1) -> None:
        body = {"topic": topic, "qos": qos, "payload": json.dumps(payload), "retain": False}
        await self.ask_broker("POST", "publish", body)

    async def tag(self, *uids: int, **fields: Any) -> str:
        """Returns the name of a new tag that these users hold."""
        tag = f"t{uuid4().hex}"
        await self.ask("PUT", f"tags/{tag}", fields)
        if uids:
            await self.change(tag, add=uids)
        return tag

    async def change(self, tag: str, **fields: Any) -> Any:
        return await self.ask("POST", f"tags/{tag}/users", fields)

    async def tell(self, tag: str, client_id: str) -> None:
        await self.ask("POST", "publish", {"topic": topic_of(tag), "qos": 1, "id": client_id, "type": "offer"})


def topic_of(tag: str) -> str:
    return f"business/tag_{tag}"


@pytest.fixture
async def operator(shared_stack: Stack) -> AsyncIterator[Operator]:
    async with aiohttp.ClientSession() as http:
        yield Operator(shared_stack, http)


async def pulled(service: Service, uid: int, topic: str) -> list[str]:
    return [each["id"] for each in await service.pull(uid) if each["topic"] == topic]


async def sees(service: Service, uid: int, topic: str, *ids: str) -> None:
    async def enough() -> bool | None:
        return len(await pulled(service, uid, topic)) >= len(ids) or None

    await until(enough)
    assert await pulled(service, uid, topic) == list(ids)


async def unsubscribed(operator: Operator, clientid: str, topic: str) -> None:
    """The broker has ended the subscription, which it does just after the device was told."""

    async def ended() -> bool | None:
        return topic not in await operator.subscriptions(clientid) or None

    await until(ended)


async def told(device: Phone, kind: str, topic: str) -> dict[str, Any]:
    """Returns what the device is told of the topic."""

    async def there() -> dict[str, Any] | None:
        for _, payload in device.heard:
            if payload.get("type") == kind:
                for each in payload["body"]["topics"]:
                    if each["topic"] == topic:
                        found: dict[str, Any] = each
                        return found
        return None

    return await until(there)


async def test_a_tag_given_to_an_online_user(
    shared_stack: Stack, service: Service, operator: Operator, user: User
) -> None:
    holder = user()
    tag = await operator.tag(title="Spring")
    topic = topic_of(tag)
    async with phone(shared_stack, holder) as ann:
        await told(ann, "im.subscribe", "business/global")
        assert not await ann.subscribe(topic)
        await operator.tell(tag, "before")
        assert await operator.change(tag, add=[holder]) == {"added": 1, "removed": 0}
        assert (await told(ann, "im.subscribe", topic))["name"] == "Spring"
        assert await ann.subscribe(topic)
        await operator.tell(tag, "live")
        await ann.hears("offer", topic, "live")
        await sees(service, holder, topic, "live")


async def test_a_tag_given_to_an_offline_user(
    shared_stack: Stack, service: Service, operator: Operator, user: User
) -> None:
    holder, other = user(), user()
    tag = await operator.tag(holder)
    await operator.tell(tag, "missed")
    async with phone(shared_stack, holder) as ann:
        await told(ann, "im.subscribe", topic_of(tag))
        assert await ann.subscribe(topic_of(tag))
        await operator.tell(tag, "live")
        await ann.hears("offer", client_id="live")
    await sees(service, holder, topic_of(tag), "missed", "live")
    assert await pulled(service, other, topic_of(tag)) == []


async def test_a_tag_that_is_taken_away(shared_stack: Stack, service: Service, operator: Operator, user: User) -> None:
    """From a session that is connected, and from one that is kept."""
    loser, keeper = user(), user()
    tag = await operator.tag(loser, keeper)
    topic = topic_of(tag)
    async with phone(shared_stack, loser, "tablet", clean_session=False) as tablet:
        assert await tablet.subscribe(topic)
    async with phone(shared_stack, loser) as ann, phone(shared_stack, keeper) as bob:
        assert await ann.subscribe(topic)
        assert await bob.subscribe(topic)
        await operator.tell(tag, "both")
        await ann.hears("offer", client_id="both")
        await operator.change(tag, remove=[loser])
        await told(ann, "im.unsubscribe", topic)
        assert not await ann.subscribe(topic)
        await operator.tell(tag, "one")
        await bob.hears("offer", client_id="one")
        await send(shared_stack, keeper, f"single/{loser}", "mark")
        await ann.hears("text", client_id="mark")
        assert "one" not in [payload["id"] for _, payload in ann.heard]
    async with phone(shared_stack, loser, "tablet", clean_session=False) as tablet:
        await tablet.hears("text", client_id="mark")
        assert "one" not in [payload["id"] for _, payload in tablet.heard]
    await sees(service, keeper, topic, "both", "one")
    assert await pulled(service, loser, topic) == ["both"]


async def test_a_message_reaches_exactly_the_holders(service: Service, operator: Operator, user: User) -> None:
    """Whichever way they came to hold it, and whichever way it was published."""
    manual, profile, left, stranger = (user() for _ in range(4))
    await operator.ask("PUT", "tags/female", {"title": "Women", "followable": False})
    await operator.change("female", add=[manual, left])
    await operator.ask("PUT", "tags/female/users?source=profile", f"{profile}\n{manual}\n".encode())
    await operator.change("female", remove=[left])
    message = {"id": "sale", "type": "offer", "body": {"percent": 20}}
    await operator.publish_through_the_broker("business/tag_female", message)
    await operator.publish_through_the_broker("business/tag_female", {**message, "id": "typing"}, qos=0)
    for uid in (manual, profile):
        await sees(service, uid, "business/tag_female", "sale")
    for uid in (left, stranger):
        assert await pulled(service, uid, "business/tag_female") == []
    (entry,) = [each for each in await service.pull(profile) if each["topic"] == "business/tag_female"]
    assert (entry["from"], entry["payload"]) == ("0", message)


async def test_a_new_set_takes_effect_at_once(
    shared_stack: Stack, service: Service, operator: Operator, user: User
) -> None:
    stays, comes, goes = user(), user(), user()
    tag = await operator.tag()
    topic, path = topic_of(tag), f"tags/{tag}/users?source=profile"
    await operator.ask("PUT", path, f"{stays}\n{goes}\n".encode())
    async with phone(shared_stack, comes) as ann, phone(shared_stack, goes) as bob:
        await told(bob, "im.subscribe", topic)
        assert await bob.subscribe(topic)
        await operator.tell(tag, "first")
        await bob.hears("offer", client_id="first")
        await operator.ask("PUT", path, f"{stays}\n{comes}\n".encode())
        await operator.tell(tag, "second")
        await sees(service, stays, topic, "first", "second")
        await sees(service, comes, topic, "second")
        await sees(service, goes, topic, "first")
        await told(ann, "im.subscribe", topic)
        await told(bob, "im.unsubscribe", topic)
        assert await ann.subscribe(topic)
        await operator.tell(tag, "third")
        await ann.hears("offer", client_id="third")
        await send(shared_stack, stays, f"single/{goes}", "mark")
        await bob.hears("text", client_id="mark")
        assert "third" not in [payload["id"] for _, payload in bob.heard]


async def test_a_kept_session_hears_nothing_of_a_tag_that_a_new_set_took(
    shared_stack: Stack, service: Service, operator: Operator, user: User
) -> None:
    loser, keeper = user(), user()
    tag = await operator.tag()
    topic, path = topic_of(tag), f"tags/{tag}/users?source=profile"
    await operator.ask("PUT", path, f"{loser}\n{keeper}\n".encode())
    async with phone(shared_stack, loser, "tablet", clean_session=False) as tablet:
        assert await tablet.subscribe(topic)
    await operator.ask("PUT", path, f"{keeper}\n".encode())
    async with phone(shared_stack, loser, "tablet", clean_session=False) as tablet:
        await unsubscribed(operator, f"{loser}-tablet", topic)
        await operator.tell(tag, "secret")
        await sees(service, keeper, topic, "secret")
        await send(shared_stack, keeper, f"single/{loser}", "mark")
        await tablet.hears("text", client_id="mark")
        assert "secret" not in [payload["id"] for _, payload in tablet.heard]
    assert await pulled(service, loser, topic) == []


async def test_a_business_message_is_stored_once(
    shared_stack: Stack, service: Service, operator: Operator, user: User
) -> None:
    """Published by the service, it comes back through the broker's rule; resent, it is known."""
    holder = user()
    tag = await operator.tag(holder)
    topic = topic_of(tag)
    async with phone(shared_stack, holder) as ann:
        assert await ann.subscribe(topic)
        for _ in range(2):
            await operator.tell(tag, "admin")
            await operator.publish_through_the_broker(topic, {"id": "rest", "type": "offer"})
        await operator.tell(tag, "last")
        await ann.hears("offer", client_id="last")
        await ann.hears("offer", client_id="rest")
    await until_seen(service, holder, topic, {"admin", "rest", "last"})
    assert sorted(await pulled(service, holder, topic)) == ["admin", "last", "rest"]


async def until_seen(service: Service, uid: int, topic: str, ids: set[str]) -> None:
    async def all_there() -> bool | None:
        return ids <= set(await pulled(service, uid, topic)) or None

    await until(all_there)


async def test_following(shared_stack: Stack, service: Service, operator: Operator, user: User) -> None:
    follower = user()
    tag, closed = await operator.tag(followable=True), await operator.tag()
    topic = topic_of(tag)
    async with phone(shared_stack, follower, "tablet") as ann:
        await ann.publish(f"{topic}/follow", id="f", ack=True)
        assert (await ann.hears("im.ack"))["body"]["id"] == "f"
        await told(ann, "im.subscribe", topic)
        assert await ann.subscribe(topic)
        await operator.tell(tag, "heard")
        await ann.hears("offer", client_id="heard")
        await ann.publish(f"{topic}/unfollow", id="u", ack=True)
        await told(ann, "im.unsubscribe", topic)
        await unsubscribed(operator, f"{follower}-tablet", topic)
        await operator.tell(tag, "unheard")
        await ann.publish(f"{topic_of(closed)}/follow", id="c")
        assert (await ann.hears("im.error"))["body"] == {
            **{"ref": "c", "code": "not_followable"},
            "message": "Users cannot follow this tag: operators decide who holds it.",
        }
        assert "unheard" not in [payload["id"] for _, payload in ann.heard]
    await sees(service, follower, topic, "heard")


OPERATOR = 9001


@pytest.fixture
def stack_of_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("IM_OPERATORS", f"ops,{OPERATOR}")
    stack = Stack(tmp_path)
    try:
        stack.start()
        yield stack
    finally:
        stack.kill()


async def test_global_reaches_who_never_connected(own_stack: Stack, http: aiohttp.ClientSession) -> None:
    """Runs on its own stack: what goes to all is seen by the users of every other test."""
    service, operator = Service(own_stack, http), Operator(own_stack, http)
    mark = uuid4().hex
    await operator.publish_through_the_broker("business/global", {"id": mark, "type": "offer"})

    async def there() -> bool | None:
        return mark in await pulled(service, 1001, "business/global") or None

    await until(there)


async def test_operators_publish_over_mqtt(stack_of_operators: Stack) -> None:
    stack, holder, stranger = stack_of_operators, 1001, 1002
    async with aiohttp.ClientSession() as http:
        service, operator = Service(stack, http), Operator(stack, http)
        tag = await operator.tag(holder)
        topic = topic_of(tag)
        async with phone(stack, holder) as ann:
            assert await ann.subscribe(topic)
            assert await ann.subscribe("business/global")
            for client in (Aiomqtt(), Mosquitto()):
                for to in (topic, "business/global"):
                    name = type(client).__name__
                    await client.publish(stack, OPERATOR, to, [json.dumps({"id": name, "type": "offer"}).encode()])
                    await ann.hears("offer", to, name)
            await send(stack, stranger, topic, "forged")
            await sees(service, holder, topic, "Aiomqtt", "Mosquitto")
            await sees(service, stranger, "business/global", "Aiomqtt", "Mosquitto")
            assert await pulled(service, stranger, topic) == []
            assert "forged" not in [payload["id"] for _, payload in ann.heard]
        senders = {each["from"] for each in await service.pull(holder)}
        assert senders == {str(OPERATOR)}
