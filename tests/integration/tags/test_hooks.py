"""Tags over the webhook: messages, following, permissions, and what devices and the broker are told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.app import App, message_body, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.integration.groups.test_group import refused
from tests.integration.groups.test_group_authz import ask
from tests.integration.groups.test_group_subscriptions import subscribes
from tests.integration.tags.requests import change, make, tell, told
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("operator", ["ops", "9001", "undefined"])
async def test_operators_and_rest_publish_to_holders(app: App, uid: str, other_uid: str, operator: str) -> None:
    tag = await make(app)
    await change(app, tag, add=[uid])
    body = message_body(f"business/tag_{tag}", {"id": "m"}, operator, rest=operator == "undefined")
    for _ in range(2):
        assert (await app.hook("message", body)).status == 204
    assert await told(app, uid, tag) == ["m"]
    assert await told(app, other_uid, tag) == []
    senders = [each["from"] for each in (await app.pull(uid)).json["messages"] if each["topic"].endswith(tag)]
    assert senders == ["0" if operator == "undefined" else operator]
    live = message_body(f"business/tag_{tag}", {"id": "live"}, operator, qos=0)
    assert (await app.hook("message", live)).status == 204
    assert await told(app, uid, tag) == ["m"]


async def test_users_do_not_publish_to_tags(app: App, uid: str) -> None:
    tag = await make(app)
    answer = await app.publish(f"business/tag_{tag}", {"id": "m"}, uid)
    assert (answer.status, answer.code) == (400, "not_an_operator")
    await change(app, tag, add=[uid])
    assert await told(app, uid, tag) == []


async def test_a_message_to_an_unknown_tag_is_a_dead_letter(app: App) -> None:
    before = len(await app.letters("9001"))
    answer = await app.publish("business/tag_nowhere", {"id": "m"}, "9001")
    assert (answer.status, answer.code) == (400, "unknown_tag")
    assert [each["reason"] for each in (await app.letters("9001"))[before:]] == ["unknown_tag"]


async def test_following(app: App, uid: str) -> None:
    tag = await make(app, followable=True)
    topic = f"business/tag_{tag}"
    for _ in range(2):
        assert (await app.command(f"{topic}/follow", {"id": "f", "ack": True}, uid)).status == 204
    await tell(app, tag, "one")

    async def acknowledged() -> list[dict[str, Any]]:
        return [each["body"] for each in app.emqx.told(uid, "im.ack") if each["body"]["id"] == "f"]

    first = (await until(acknowledged))[0]
    assert first["mid"] > 0
    assert (await app.admin("GET", f"/users/{uid}")).json["tags"][0]["sources"] == ["follow"]
    assert (await app.command(f"{topic}/unfollow", {"id": "u"}, uid)).status == 204
    # A late repeat is none.
    assert (await app.command(f"{topic}/follow", {"id": "f"}, uid)).status == 204
    await tell(app, tag, "two")
    assert await told(app, uid, tag) == ["one"]


@pytest.mark.parametrize("name", ["follow", "unfollow"])
async def test_what_cannot_be_followed(app: App, uid: str, name: str) -> None:
    tag = await make(app)
    answer = await app.command(f"business/tag_{tag}/{name}", {"id": "f"}, uid)
    await refused(app, answer, uid, "not_followable", "f")
    other = new_uid()
    await refused(app, await app.command(f"business/tag_x/{name}", {"id": "f"}, other), other, "unknown_tag", "f")
    third = new_uid()
    body = await app.command(f"business/tag_{tag}/{name}", b"follow", third)
    assert (body.status, body.code) == (400, "bad_command")
    assert (await app.command(f"business/tag_{tag}/{name}", {"id": "f"}, third, qos=0)).status == 204


async def test_holders_subscribe(app: App, uid: str, other_uid: str) -> None:
    tag = await make(app)
    topic = f"business/tag_{tag}"
    await change(app, tag, add=[uid])
    assert [await ask(app, each, "subscribe", topic) for each in (uid, other_uid)] == ["allow", "deny"]
    assert await ask(app, uid, "publish", topic) == "deny"
    await change(app, tag, remove=[uid])
    assert await ask(app, uid, "subscribe", topic) == "deny"


@pytest_asyncio.fixture(loop_scope="session")
async def fragile(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[App]:
    async with running_app(own_redis.url, tmp_path) as running:
        yield running


async def test_memory_answers_while_redis_is_away(fragile: App, own_redis: RedisServer) -> None:
    holder, asker, lost, stranger = (new_uid() for _ in range(4))
    tag, ended = await make(fragile), await make(fragile)
    await change(fragile, tag, add=[holder, asker, lost])
    await change(fragile, ended, add=[holder])
    await change(fragile, tag, remove=[lost])
    await fragile.admin("DELETE", f"/tags/{ended}")
    assert await ask(fragile, asker, "subscribe", f"business/tag_{tag}") == "allow"
    own_redis.kill()
    uids = (holder, asker, lost, stranger)
    asked = await asyncio.gather(*(ask(fragile, uid, "subscribe", f"business/tag_{tag}") for uid in uids))
    assert asked == ["allow", "allow", "undecided", "undecided"]
    assert await ask(fragile, holder, "subscribe", f"business/tag_{ended}") == "undecided"


async def test_who_is_online_is_told_at_once(app: App, uid: str, other_uid: str) -> None:
    tag = await make(app, title="Räder")
    topic = f"business/tag_{tag}"
    session = app.emqx.sessions[await app.connect(uid)]
    await change(app, tag, add=[uid, other_uid])

    def heard(kind: str) -> list[Any]:
        return [each["body"] for each in app.emqx.told(uid, kind) if topic in str(each["body"])]

    async def subscribed() -> list[Any]:
        return heard("im.subscribe")

    (body,) = await until(subscribed)
    assert body["topics"] == [{"topic": topic, "qos": 1, "name": "Räder"}]
    assert session.dropped == 1
    kept = app.emqx.sessions[f"{uid}-tablet"] = Session(uid, [topic], connected=False)
    others = app.emqx.sessions[f"{other_uid}-phone"] = Session(other_uid, [topic], connected=False)
    session.topics = {topic}
    await change(app, tag, remove=[uid])

    async def unsubscribed() -> list[Any]:
        return heard("im.unsubscribe")

    (body,) = await until(unsubscribed)
    assert body["topics"] == [{"topic": topic, "qos": 1}]
    assert (session.topics, kept.topics, others.topics) == (set(), set(), {topic})
    assert app.emqx.told(other_uid) == []


async def test_of_a_new_set_those_online_are_told(app: App, uid: str) -> None:
    tag, leaver = await make(app), new_uid()
    topic = f"business/tag_{tag}"
    await change(app, tag, add=[leaver], source="profile")
    for user in (uid, leaver):
        app.emqx.sessions[await app.connect(user)].topics = {topic}
    answer = await app.admin("PUT", f"/tags/{tag}/users?source=profile", data=f"{uid}\n77\n".encode())
    assert answer.status == 204

    async def both() -> bool:
        told = [str(app.emqx.told(uid, "im.subscribe")), str(app.emqx.told(leaver, "im.unsubscribe"))]
        return all(topic in each for each in told)

    await until(both, 30)
    assert app.emqx.sessions[f"{uid}-phone"].topics == {topic}
    assert app.emqx.sessions[f"{leaver}-phone"].topics == set()


async def test_who_comes_is_told_his_tags(app: App, uid: str) -> None:
    tag = await make(app)
    await change(app, tag, add=[uid])
    await subscribes(app, uid, f"single/{uid}")

    async def told() -> list[dict[str, Any]]:
        return app.emqx.told(uid, "im.subscribe")

    (message,) = await until(told)
    assert message["body"]["topics"] == [
        {"topic": "business/global", "qos": 1},
        {"topic": f"business/tag_{tag}", "qos": 1},
    ]


@pytest.mark.parametrize("how", ["given", "new set"])
async def test_a_pull_that_waits_hears_of_a_new_tag(app: App, uid: str, how: str) -> None:
    tag, end = await make(app), await app.end(uid)
    before = await app.metric("emqx_im_waiting_pulls")
    waiting = asyncio.create_task(app.pull(uid, end, wait=60))

    async def waits() -> bool:
        return await app.metric("emqx_im_waiting_pulls") > before

    await until(waits)
    if how == "given":
        await change(app, tag, add=[uid])
    else:
        answer = await app.admin("PUT", f"/tags/{tag}/users?source=profile", data=uid.encode())
        assert answer.status == 204
    await tell(app, tag, "m")
    assert [each["id"] for each in (await waiting).json["messages"]] == ["m"]
