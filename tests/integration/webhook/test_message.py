"""`/hooks/message`: what is stored, what is not, what is refused, and what its sender hears."""

from typing import Any

import pytest

from hooks.tokens.bearer import receiver_key
from tests.integration.app import SECRETS, App, message_body, new_uid, until
from tests.recorded import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def told(app: App, uid: str, count: int = 1) -> list[dict[str, Any]]:
    """Control messages to the user, once there are so many."""

    async def enough() -> bool:
        return len(app.emqx.told(uid)) >= count

    await until(enough)
    return app.emqx.told(uid)


# Stored


async def test_a_recorded_publish_is_stored_and_pulled(app: App, uid: str) -> None:
    body = {**recorded("publish_single")[0], "topic": f"single/{uid}"}
    assert (await app.hook("message", body)).status == 204
    (message,) = await app.messages(uid)
    assert message.pop("last_id") == message.pop("mid") > 0
    assert message == {
        **{"topic": f"single/{uid}", "from": "1001", "id": "01J-a", "qos": 1, "ts": body["publish_received_at"]},
        "payload": {"id": "01J-a", "type": "text", "body": {"text": "hello"}},
    }


async def test_json_comes_back_as_the_bytes_that_were_published(app: App, uid: str) -> None:
    payload = b' {"body":1.50e2,\t"id" : "x", "big":123456789012345678901234567890 } '
    await app.publish(f"single/{uid}", payload)
    assert b'"payload":%b}' % payload in (await app.pull(uid)).raw


@pytest.mark.parametrize("payload", [b"", b"typing", bytes(range(256)), b'{"id":"x","n":NaN}', b"[" * 2000])
async def test_anything_else_comes_back_in_base64(app: App, uid: str, payload: bytes) -> None:
    body = message_body(f"single/{uid}", payload)
    assert (await app.hook("message", body)).status == 204
    (message,) = await app.messages(uid)
    assert message["payload_b64"] == body["payload_b64"]
    assert message["id"] == body["id"]
    assert "payload" not in message


async def test_the_senders_other_devices_see_it_too(app: App, uid: str, other_uid: str) -> None:
    await app.publish(f"single/{other_uid}", {"id": "x"}, uid)
    assert await app.messages(uid) == await app.messages(other_uid) != []


async def test_a_message_to_oneself_comes_once(app: App, uid: str) -> None:
    await app.publish(f"single/{uid}", {"id": "x"}, uid)
    assert len(await app.messages(uid)) == 1


async def test_a_repeat_is_stored_once(app: App, uid: str, other_uid: str) -> None:
    for text in ("first", "second"):
        assert (await app.publish(f"single/{other_uid}", {"id": "x", "body": text}, uid)).status == 204
    (message,) = await app.messages(other_uid)
    assert message["payload"]["body"] == "first"


async def test_a_retry_of_the_broker_is_no_second_message(app: App, uid: str) -> None:
    body = message_body(f"single/{uid}", b"no id of its own")
    for _ in range(3):
        assert (await app.hook("message", body)).status == 204
    assert len(await app.messages(uid)) == 1


async def test_an_id_is_unique_for_one_sender_and_topic(app: App) -> None:
    a, b, c = new_uid(), new_uid(), new_uid()
    for sender, receiver in ((a, c), (b, c), (a, b), (a, c)):
        await app.publish(f"single/{receiver}", {"id": "x"}, sender)
    assert [(each["from"], each["topic"]) for each in await app.messages(c)] == [(a, f"single/{c}"), (b, f"single/{c}")]
    assert len(await app.messages(a)) == 2


# Not stored


@pytest.mark.parametrize("body", recorded("publish_single")[1:])
async def test_what_is_online_only_or_by_rest_is_not_stored(app: App, uid: str, body: dict[str, Any]) -> None:
    """QoS 0, and what EMQX's REST API published to a user."""
    assert (await app.hook("message", {**body, "topic": f"single/{uid}"})).status == 204
    assert await app.messages(uid) == []


async def test_a_clientid_does_not_make_a_rest_publish(app: App, uid: str, other_uid: str) -> None:
    await app.publish(f"single/{uid}", {"id": "x"}, other_uid, clientid="http_api")
    assert [each["from"] for each in await app.messages(uid)] == [other_uid]


@pytest.mark.parametrize("topic", ["single/abc", "group/7", "x"])
@pytest.mark.parametrize("username", ["undefined", None])
async def test_a_rest_publish_elsewhere_is_none_of_ours(app: App, topic: str, username: str | None) -> None:
    assert (await app.publish(topic, {"id": 7}, username=username, rest=True)).status == 204  # type: ignore[arg-type]


async def test_what_is_refused_with_qos_1_is_ignored_with_qos_0(app: App, uid: str) -> None:
    assert (await app.publish("single/abc", {"id": 7, "ack": True}, uid, qos=0)).status == 204
    assert await app.letters(uid) == []


# Refused

REFUSED = [
    ("single/1", {"id": "x", "from": "1"}, "wrong_from", "x"),
    ("single/1", {"id": "x", "type": "im.ack"}, "reserved_type", "x"),
    ("single/1", {"id": "x", "type": ""}, "bad_type", "x"),
    ("single/1", {"id": 7}, "bad_id", None),
    ("single/1", {"id": "x" * 65}, "bad_id", None),
    ("single/1", {"id": "x", "body": "b" * 16_384}, "payload_too_large", "x"),
    ("single/1", b"\x00" * 16_385, "payload_too_large", None),
    ("single/abc", {"id": "x"}, "unknown_topic", "x"),
    ("single/0", {"id": "x"}, "unknown_topic", "x"),
    ("group/abc", {"id": "x"}, "unknown_topic", "x"),
    ("group/9007199254740991", {"id": "x"}, "unknown_group", "x"),
    ("business/x", {"id": "x"}, "unknown_topic", "x"),
    ("business/global", {"id": "x"}, "not_an_operator", "x"),
]


@pytest.mark.parametrize(("topic", "payload", "code", "ref"), REFUSED, ids=lambda value: str(value)[:40])
async def test_a_refusal_is_kept_and_its_sender_told(
    app: App, uid: str, topic: str, payload: Any, code: str, ref: str | None
) -> None:
    body = message_body(topic, payload, uid)
    answer = await app.hook("message", body)
    assert (answer.status, answer.code) == (400, code)
    (letter,) = await app.letters(uid)
    assert (letter["source"], letter["reason"], letter["cut"]) == ("message", code, False)
    (error,) = await told(app, uid)
    assert (error["type"], error["from"], error["key"]) == ("im.error", "0", receiver_key(SECRETS["secret"], uid))
    assert isinstance(error["id"], str)
    assert error["body"] == {"ref": ref or body["id"], "code": code, "message": letter["message"]}
    assert app.emqx.published[-1]["qos"] == 1
    assert await app.messages(uid) == []


async def test_who_sends_half_a_character_is_told_where(app: App, uid: str) -> None:
    topic = "single/1"
    for payload, ref in ((b'{"id":"x","ack":true,"body":"\\ud83d"}', "x"), (b'{"ack":true,"body":"\\ud83d"}', "")):
        before = len(await app.letters(uid))
        answer = await app.publish(topic, payload, uid)
        assert (answer.status, answer.code) == (400, "bad_json")
        letters = await app.letters(uid)
        assert (len(letters), letters[-1]["reason"]) == (before + 1, "bad_json")
        (error,) = await told(app, uid)
        message = letters[-1]["message"]
        assert error["body"] == {"ref": ref, "code": "bad_json", "message": message, "topic": topic}
        uid = new_uid()


async def test_a_sender_is_told_once_a_second(app: App, uid: str) -> None:
    for number in range(5):
        assert (await app.publish("single/abc", {"id": f"first-{number}"}, uid)).status == 400
    (error,) = await told(app, uid)
    assert error["body"]["ref"] == "first-0"

    async def told_again() -> bool:
        await app.publish("single/abc", {"id": "later"}, uid)
        return len(app.emqx.told(uid)) == 2

    await until(told_again)
    assert app.emqx.told(uid)[1]["body"]["ref"] == "later"


@pytest.mark.parametrize("username", ["ops", "somebody", "0", "", "+"])
async def test_only_users_send_private_messages(app: App, uid: str, username: str) -> None:
    answer = await app.publish(f"single/{uid}", {"id": "x"}, username)
    assert (answer.status, answer.code) == (400, "not_a_user")
    assert await app.messages(uid) == []


# Acknowledged


async def test_who_asks_for_it_hears_that_it_is_stored(app: App, uid: str, other_uid: str) -> None:
    for _ in range(2):
        await app.publish(f"single/{other_uid}", {"id": "x", "ack": True}, uid)
    acks = await told(app, uid, 2)
    (message,) = await app.messages(other_uid)
    for ack in acks:
        assert (ack["type"], ack["from"], ack["key"]) == ("im.ack", "0", receiver_key(SECRETS["secret"], uid))
        assert ack["body"] == {"id": "x", "mid": message["mid"]}
    assert acks[0]["id"] != acks[1]["id"]
    assert app.emqx.told(other_uid) == []


async def test_who_does_not_ask_hears_nothing(app: App, uid: str, other_uid: str) -> None:
    await app.publish(f"single/{other_uid}", {"id": "x"}, uid)
    await app.publish(f"single/{other_uid}", {"id": "y", "ack": True}, uid)
    assert [ack["body"]["id"] for ack in await told(app, uid)] == ["y"]


# To all users


@pytest.mark.parametrize("operator", ["ops", "9001", "undefined"])
async def test_operators_and_rest_publish_to_all(app: App, uid: str, operator: str) -> None:
    mark = new_uid()
    body = message_body("business/global", {"id": mark}, operator, rest=operator == "undefined")
    assert (await app.hook("message", body)).status == 204
    pulled = (await app.pull(uid, limit=1000)).json["messages"]
    (message,) = [each for each in pulled if each["id"] == mark]
    assert (message["topic"], message["from"]) == ("business/global", "0" if operator == "undefined" else operator)


@pytest.mark.parametrize(
    ("username", "code"),
    [(name, "not_an_operator") for name in ("", "Ops", "ops ", "1001")] + [("0", "not_a_user")],
)
async def test_nobody_else_does(app: App, uid: str, username: str, code: str) -> None:
    mark = new_uid()
    answer = await app.publish("business/global", {"id": mark}, username)
    assert (answer.status, answer.code) == (400, code)
    assert mark not in [each["id"] for each in (await app.pull(uid, limit=1000)).json["messages"]]


async def test_a_recorded_rest_publish_is_stored(app: App, uid: str) -> None:
    body = recorded("publish_business")[1]
    assert (await app.hook("message", body)).status == 204
    pulled = (await app.pull(uid, limit=1000)).json["messages"]
    assert ("0", "r2") in [(each["from"], each["id"]) for each in pulled]


# Malformed


@pytest.mark.parametrize("field", ["topic", "id", "username", "qos", "payload_b64", "publish_received_at"])
@pytest.mark.parametrize("value", [..., None, [], {"a": 1}, True, -1])
async def test_a_malformed_field_is_kept_as_a_dead_letter(app: App, uid: str, field: str, value: Any) -> None:
    body = message_body("business/x", {"id": "x"}, uid)
    if value is ...:
        del body[field]
    else:
        body[field] = value
    answer = await app.hook("message", body)
    if field == "username" and value is None:
        assert (answer.status, answer.code) == (400, "unknown_topic")
        return
    assert (answer.status, answer.code) == (400, "bad_body")
    if field != "username":
        (letter,) = await app.letters(uid)
        assert (letter["reason"], field in letter["message"]) == ("bad_body", True)
    assert app.emqx.told(uid) == []


@pytest.mark.parametrize("encoded", ["%", "e30", "e30=\n", "e30 =", "é"])
async def test_what_is_no_base64_is_malformed(app: App, uid: str, encoded: str) -> None:
    answer = await app.publish(f"single/{uid}", b"", uid, payload_b64=encoded)
    assert (answer.status, answer.code) == (400, "bad_body")
