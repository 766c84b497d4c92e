"""Recall and edit as users ask for them over MQTT, and operators over `/admin`."""

import time
from typing import Any

import pytest

from hooks.tokens.bearer import receiver_key
from tests.integration.app import SECRETS, App, command_body, message_body, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def sent(app: App, to: str, sender: str, **fields: Any) -> int:
    """The `mid` of a new message, from one who has been seen."""
    await app.pull(sender)
    answer = await app.publish(to, {"id": "m", "body": "hello", **fields}, sender)
    assert answer.status == 204, answer.raw
    return int((await app.pull(sender, limit=1000)).json["messages"][-1]["mid"])


async def refused(app: App, topic: str, given: dict[str, Any], sender: str, **changed: Any) -> str:
    answer = await app.command(topic, given, sender, **changed)
    assert answer.status == 400, answer.raw
    (letter,) = (await app.letters(sender))[-1:]
    assert letter["reason"] == answer.code
    return answer.code


async def test_a_recall_is_for_both(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{other_uid}", uid)
    given = {"id": "r", "mid": mid, "ack": True}
    assert (await app.command(f"single/{other_uid}/recall", given, uid)).status == 204
    for reader in (uid, other_uid):
        message, notice = await app.messages(reader)
        assert message["recalled"] == {"by": uid, "at": message["recalled"]["at"]}
        assert "payload" not in message
        body = {"topic": f"single/{other_uid}", "mid": mid, "by": uid}
        assert (notice["topic"], notice["from"], notice["payload"]["type"]) == (f"single/{reader}", "0", "im.recalled")
        assert notice["payload"]["body"] == body
        assert notice["payload"]["key"] == receiver_key(SECRETS["secret"], reader)

        async def heard(reader: str = reader, notice: dict[str, Any] = notice) -> bool:
            return app.emqx.told(reader, "im.recalled") == [notice["payload"]]

        await until(heard)
    (ack,) = await until(lambda: _told(app, uid, "im.ack"))
    assert ack["body"]["id"] == "r"


async def _told(app: App, uid: str, kind: str) -> list[dict[str, Any]]:
    return app.emqx.told(uid, kind)


async def test_an_edit_is_pulled_with_its_id(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{other_uid}", uid)
    given = {"id": "e", "mid": mid, "type": "text", "body": {"text": "better"}}
    assert (await app.command(f"single/{other_uid}/edit", given, uid)).status == 204
    message, notice = await app.messages(other_uid)
    assert message["payload"] == {"id": "m", "type": "text", "body": {"text": "better"}}
    assert (message["mid"], message["edited"]) == (mid, notice["mid"])
    body = {"topic": f"single/{other_uid}", "mid": mid, "type": "text", "body": {"text": "better"}}
    assert (notice["payload"]["type"], notice["payload"]["body"]) == ("im.edited", body)


async def test_a_group_is_told_without_a_key(app: App, uid: str, other_uid: str) -> None:
    gid = await app.group(uid, other_uid)
    mid = await sent(app, f"group/{gid}", other_uid)
    assert (await app.command(f"group/{gid}/recall", {"id": "r", "mid": mid}, uid)).status == 204, "the owner may"
    *_, message, notice = (await app.pull(other_uid)).json["messages"]
    assert message["recalled"]["by"] == uid
    assert (notice["topic"], "key" in notice["payload"]) == (f"group/{gid}", False)
    await until(lambda: _heard(app, f"group/{gid}", "im.recalled"))


async def _heard(app: App, topic: str, kind: str) -> bool:
    return kind in [each.get("type") for each in app.emqx.heard(topic)]


@pytest.mark.parametrize(
    ("verb", "given", "code"),
    [
        ("recall", {"mid": 5}, "too_late"),
        ("recall", {}, "bad_command"),
        ("recall", {"mid": "5"}, "bad_command"),
        ("recall", {"mid": True}, "bad_command"),
        ("recall", {"mid": 0}, "bad_command"),
        ("recall", {"mid": 2**53}, "bad_command"),
        ("edit", {"mid": 5}, "bad_command"),
        ("edit", {"mid": 5, "body": 1, "type": "im.x"}, "reserved_type"),
        ("edit", {"mid": 5, "body": 1, "type": ""}, "bad_type"),
        ("edit", {"mid": 5, "body": "x" * 20_000}, "payload_too_large"),
        ("edit", {"mid": 2**53 - 1, "body": 1}, "unknown_message"),
        ("star", {"mid": 5}, "unknown_topic"),
    ],
)
async def test_what_is_refused_is_told(
    app: App, uid: str, other_uid: str, verb: str, given: dict[str, Any], code: str
) -> None:
    assert await refused(app, f"single/{other_uid}/{verb}", {"id": "c", **given}, uid) == code


async def test_the_sender_alone_may_and_not_for_long(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{other_uid}", uid)
    given = {"id": "c", "mid": mid, "body": 1}
    assert await refused(app, f"single/{other_uid}/recall", given, other_uid) == "unknown_message"
    late = {"publish_received_at": time.time_ns() // 1_000_000 + 121_000}
    assert await refused(app, f"single/{other_uid}/recall", given, uid, **late) == "too_late"
    assert (await app.command(f"single/{other_uid}/edit", given, uid, **late)).status == 204
    assert (await app.command(f"single/{other_uid}/recall", {**given, "id": "d"}, uid)).status == 204
    assert await refused(app, f"single/{other_uid}/edit", {**given, "id": "e"}, uid) == "recalled"


async def test_nothing_happens_with_qos_0_or_without_a_user(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{other_uid}", uid)
    body = command_body(f"single/{other_uid}/recall", {"id": "c", "mid": mid}, uid)
    assert (await app.hook("group", {**body, "qos": 0})).status == 204
    assert (await app.hook("group", {**body, "username": None})).status == 204
    assert len(await app.messages(other_uid)) == 1


async def test_operators_recall_whatever_users_or_they_sent(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{other_uid}", uid)
    topic = f"single/{other_uid}"
    answer = await app.admin("POST", "/recall", json={"topic": topic, "mid": mid})
    assert answer.status == 200, answer.raw
    again = await app.admin("POST", "/recall", json={"topic": topic, "mid": mid})
    assert again.json == answer.json, "the id of the first recall"
    for reader in (uid, other_uid):
        message, notice = await app.messages(reader)
        assert message["recalled"] == {"by": "0", "at": answer.json["id"]}
        assert notice["payload"]["body"]["by"] == "0"
    control = (await app.messages(uid))[-1]["mid"]
    own = await app.admin("POST", "/recall", json={"topic": f"single/{uid}", "mid": control})
    assert (own.status, own.code) == (400, "of_the_service")


async def test_operators_recall_what_went_to_everybody(app: App, uid: str) -> None:
    published = await app.admin("POST", "/publish", json={"topic": "business/global", "body": "oops"})
    mid = published.json["mid"]
    answer = await app.admin("POST", "/recall", json={"topic": "business/global", "mid": mid})
    assert answer.status == 200, answer.raw
    found = [each for each in (await app.pull(uid, limit=1000)).json["messages"] if each["mid"] == mid]
    assert found[0]["recalled"] == {"by": "0", "at": answer.json["id"]}
    await until(lambda: _heard(app, "business/global", "im.recalled"))
    told = [each for each in app.emqx.published if each["topic"] == "business/global"][-1]["payload"]
    through_the_rule = message_body("business/global", told.encode(), rest=True, clientid="http_api")
    assert (await app.hook("message", {**through_the_rule, "username": None})).status == 204
    everything = (await app.pull(uid, limit=1000)).json["messages"]
    assert len([each for each in everything if each["topic"] == "business/global"]) == len(
        {each["id"] for each in everything if each["topic"] == "business/global"}
    ), "what comes back through the broker is stored already"


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"topic": "single/1", "mid": 5}, 404, "not_found"),
        ({"topic": "single/1"}, 400, "bad_argument"),
        ({"topic": "single/1", "mid": "5"}, 400, "bad_argument"),
        ({"topic": "nothing", "mid": 5}, 400, "unknown_topic"),
        ({"topic": "single/1/recall", "mid": 5}, 400, "unknown_topic"),
    ],
)
async def test_what_operators_cannot_recall(app: App, given: dict[str, Any], status: int, code: str) -> None:
    answer = await app.admin("POST", "/recall", json=given)
    assert (answer.status, answer.code) == (status, code)
