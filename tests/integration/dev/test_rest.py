"""The REST API, answer for answer as EMQX 5.8.9 recorded them."""

import base64
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import aiomqtt
import pytest

from hooks.doctor import CheckState, broker
from hooks.emqx.management import Management
from hooks.emqx.rest import Listed, Rest
from hooks.metrics import Metrics
from tests.integration.dev.conftest import Embedded, until
from tests.recorded import recorded

ANSWERS = recorded("rest_answers")
KEY = {"Authorization": "Basic " + base64.b64encode(b"key:secret").decode()}


async def call(
    embedded: Embedded, method: str, path: str, body: Any = None, headers: dict[str, str] | None = KEY
) -> dict[str, Any]:
    """Status and body, in the recording's form."""
    url = embedded.api + path
    async with aiohttp.ClientSession() as http, http.request(method, url, json=body, headers=headers) as response:
        text = await response.text()
        return {"status": response.status, "body": await response.json() if text else ""}


def shape(answer: Any) -> Any:
    """Returns what of an answer does not change from one run to the next."""
    match answer:
        case dict():
            return {key: shape(value) for key, value in answer.items()}
        case list():
            return [shape(item) for item in answer]
        case str() if len(answer) == 32:
            return "an id"
        case str() if answer.startswith("emqx"):
            return "a node"
    return answer


async def test_publish(embedded: Embedded) -> None:
    message = {"topic": "single/1002", "qos": 1, "payload": '{"id":"r1"}'}
    answer = await call(embedded, "POST", "/publish", message)
    assert answer == ANSWERS["publish_without_subscriber"]
    async with embedded.client("1002") as receiver:
        await receiver.subscribe("single/1002", qos=1)
        answer = await call(embedded, "POST", "/publish", message)
        assert shape(answer) == shape(ANSWERS["publish_with_subscriber"])
        live = await anext(receiver.messages)
        assert (live.topic.value, live.payload, live.qos) == ("single/1002", b'{"id":"r1"}', 1)
        bulk = [message, message | {"topic": "single/5", "payload": "eA==", "payload_encoding": "base64"}]
        answer = await call(embedded, "POST", "/publish/bulk", bulk)
        assert shape(answer) == shape(ANSWERS["publish_bulk"])
        answer = await call(embedded, "POST", "/publish/bulk", [message, message])
        assert answer["status"] == 200
        assert len(answer["body"]) == 2


async def test_a_publish_passes_the_rules_without_a_username(embedded: Embedded) -> None:
    payload = base64.b64encode(b"\xff").decode()
    for topic in ("single/1002", "business/global"):
        message = {"topic": topic, "qos": 1, "payload": payload, "payload_encoding": "base64"}
        await call(embedded, "POST", "/publish", message)
    await until(lambda: bool(embedded.service.calls))
    [(hook, body)] = embedded.service.calls
    example = recorded("publish_business")[1]
    assert hook == "message"
    assert {key: body[key] for key in ("clientid", "username", "topic", "qos")} == {
        key: example[key] for key in ("clientid", "username", "topic", "qos")
    }
    assert (body["rest"], body["payload_b64"]) == (True, payload)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/publish", {"topic": "a/#", "payload": "x"}, ANSWERS["publish_bad_topic"]["body"]),
        ("/publish", {"topic": "", "payload": "x"}, ANSWERS["publish_bad_topic"]["body"]),
        (
            "/publish/bulk",
            [{"topic": "a", "payload": "x"}, {"topic": "+", "payload": "x"}],
            ANSWERS["publish_bad_topic"]["body"],
        ),
        ("/publish", {"topic": "a", "payload": "x" * 131_072}, {"message": "packet_too_large", "reason_code": 151}),
        ("/publish", {"topic": "a", "payload": "=", "payload_encoding": "base64"}, {"reason_code": 131}),
        ("/publish", {"topic": "a"}, {"code": "BAD_REQUEST"}),
        ("/publish", {"topic": "a", "payload": "x", "qos": 3}, {"code": "BAD_REQUEST"}),
        ("/publish", {"topic": "a", "payload": "x", "qos": True}, {"code": "BAD_REQUEST"}),
        ("/publish", {"topic": "a", "payload": "x", "payload_encoding": "hex"}, {"code": "BAD_REQUEST"}),
        ("/publish", [], {"code": "BAD_REQUEST"}),
        ("/publish/bulk", [], {"code": "BAD_REQUEST"}),
        ("/publish/bulk", [1], {"code": "BAD_REQUEST"}),
    ],
)
async def test_what_is_no_publish(embedded: Embedded, path: str, body: Any, expected: dict[str, Any]) -> None:
    answer = await call(embedded, "POST", path, body)
    assert answer["status"] == 400
    assert answer["body"] | expected == answer["body"]


async def test_a_key_is_needed(embedded: Embedded) -> None:
    answer = await call(embedded, "POST", "/publish", {}, headers=None)
    assert answer == ANSWERS["publish_without_key"]
    wrong = {"Authorization": "Basic " + base64.b64encode(b"key:wrong").decode()}
    assert (await call(embedded, "GET", "/clients", headers=wrong))["status"] == 401


async def test_clients(embedded: Embedded) -> None:
    fields = "fields=clientid,username,connected,connected_at,node"
    async with embedded.client("1002"), embedded.client("1001", clean_session=False):
        answer = await call(embedded, "GET", f"/clients?username=1002&{fields}")
        example = ANSWERS["clients_of_user"]
        assert answer["status"] == example["status"]
        assert answer["body"]["meta"] == example["body"]["meta"]
        [client] = answer["body"]["data"]
        assert set(client) == set(example["body"]["data"][0])
        assert len(client["connected_at"]) == len(example["body"]["data"][0]["connected_at"])
        assert (client["clientid"], client["connected"]) == ("1002-phone", True)
        page = (await call(embedded, "GET", f"/clients?page=1&limit=1&{fields}"))["body"]
        assert page["meta"] == {"count": 2, "limit": 1, "page": 1, "hasnext": True}
        page = (await call(embedded, "GET", "/clients?page=2&limit=1"))["body"]
        assert (len(page["data"]), page["meta"]["hasnext"]) == (1, False)
        assert set(page["data"][0]) <= set(ANSWERS["clients_v2_page"]["body"]["data"][0])
    await until(lambda: not any(session.connection for session in embedded.broker.sessions.values()))
    [absent] = (await call(embedded, "GET", "/clients"))["body"]["data"]
    assert (absent["clientid"], absent["connected"]) == ("1001-phone", False)
    for query in ("page=0", "limit=10001", "limit=x"):
        assert (await call(embedded, "GET", f"/clients?{query}"))["status"] == 400


async def test_clients_by_cursor(embedded: Embedded) -> None:
    """A page begins after the last one, whichever clients have come or gone meanwhile."""
    async with embedded.client("1001"), embedded.client("1003"), embedded.client("1004"):
        first = await call(embedded, "GET", "/clients_v2?limit=1")
        example = ANSWERS["clients_v2_page"]
        assert first["status"] == example["status"]
        assert set(first["body"]["meta"]) == set(example["body"]["meta"])
        assert first["body"]["meta"]["count"] == 1
        assert set(first["body"]["data"][0]) <= set(example["body"]["data"][0])
        found = [first["body"]["data"][0]["clientid"]]
        async with embedded.client("1002"), embedded.client("1000"):
            cursor = first["body"]["meta"]["cursor"]
            while cursor is not None:
                page = (await call(embedded, "GET", f"/clients_v2?limit=2&cursor={cursor}"))["body"]
                found += [client["clientid"] for client in page["data"]]
                cursor = page["meta"].get("cursor")
        assert found == ["1001-phone", "1002-phone", "1003-phone", "1004-phone"]
    assert (await call(embedded, "GET", "/clients_v2?cursor=%25"))["status"] == 400


async def test_what_is_listed_is_what_the_events_said(embedded: Embedded) -> None:
    """To the millisecond: presence compares the two."""
    async with embedded.client("1002"):
        await until(lambda: bool(embedded.service.calls))
        rest = Rest(embedded.api.removesuffix("/api/v5"), "key", "secret", Metrics())
        try:
            [[listed]] = [page async for page in rest.sessions()]
        finally:
            await rest.close()
        [(_, body)] = [call for call in embedded.service.calls if call[1]["event"] == "client.connected"]
        assert listed == Listed(body["clientid"], body["username"], True, body["connected_at"], body["node"], True)


async def test_one_subscription_at_a_time(embedded: Embedded) -> None:
    topic = {"topic": "business/global", "qos": 1}
    async with embedded.client("1002") as client:
        await client.subscribe("single/1002", qos=1)
        answer = await call(embedded, "POST", "/clients/1002-phone/subscribe", topic)
        expected = {**shape(ANSWERS["subscribe_bulk"])["body"][0], "clientid": "1002-phone"}
        assert shape(answer) == {"status": 200, "body": expected}
        held = await call(embedded, "GET", "/clients/1002-phone/subscriptions")
        assert shape(held) == {"status": 200, "body": [{**expected, "topic": "single/1002"}, expected]}
        answer = await call(embedded, "POST", "/clients/1002-phone/unsubscribe", {"topic": "business/global"})
        assert answer == ANSWERS["unsubscribe_bulk"]
        held = await call(embedded, "GET", "/clients/1002-phone/subscriptions")
        assert [each["topic"] for each in held["body"]] == ["single/1002"]
    for method, path in (("GET", "subscriptions"), ("POST", "subscribe"), ("POST", "unsubscribe")):
        answer = await call(embedded, method, f"/clients/nobody/{path}", topic if method == "POST" else None)
        assert answer == ANSWERS["subscribe_unknown_client"]


async def test_subscribe_and_unsubscribe(embedded: Embedded) -> None:
    topics = [{"topic": "business/global", "qos": 1}, {"topic": "business/tag_x", "qos": 1}]
    async with embedded.client("1002", clean_session=False):
        answer = await call(embedded, "POST", "/clients/1002-phone/subscribe/bulk", topics)
        expected = shape(ANSWERS["subscribe_bulk"])
        for item in expected["body"]:
            item["clientid"] = "1002-phone"
        assert shape(answer) == expected
        assert not embedded.service.questions
    await until(lambda: embedded.broker.sessions["1002-phone"].connection is None)
    answer = await call(embedded, "POST", "/clients/1002-phone/unsubscribe/bulk", topics[1:])
    assert answer == ANSWERS["unsubscribe_bulk"]
    assert embedded.broker.sessions["1002-phone"].subscriptions == {"business/global": 1}
    for path in ("/clients/nobody/subscribe/bulk", "/clients/nobody/unsubscribe/bulk"):
        assert await call(embedded, "POST", path, topics) == ANSWERS["subscribe_unknown_client"]
    answer = await call(embedded, "POST", "/clients/1002-phone/subscribe/bulk", [{"topic": "a/#/b"}])
    assert answer["status"] == 400


async def test_a_client_asks_again_when_his_permissions_are_dropped(embedded: Embedded) -> None:
    async with embedded.client("1001") as client:
        for _ in range(2):
            await client.publish("group/7", b"x", qos=1)
        answer = await call(embedded, "DELETE", "/clients/1001-phone/authorization/cache")
        assert answer == ANSWERS["acl_cache_drop"]
        assert len(embedded.service.questions) == 1
        await client.publish("group/7", b"x", qos=1)
        assert len(embedded.service.questions) == 2
    assert (await call(embedded, "DELETE", "/clients/nobody/authorization/cache"))["status"] == 404


async def test_kick(embedded: Embedded) -> None:
    client = await embedded.raw("1001", clean=False)
    assert await call(embedded, "DELETE", "/clients/1001-raw") == ANSWERS["kick"]
    assert await client.receive() == b""
    await until(lambda: embedded.service.of("1001-raw") == ["client.connected", "client.disconnected kicked"])
    assert await call(embedded, "DELETE", "/clients/1001-raw") == ANSWERS["kick_unknown"]
    assert (await call(embedded, "GET", "/nothing"))["status"] == 404
    client.abort()


async def test_the_doctor_and_the_rules_tell_it_from_an_emqx(embedded: Embedded) -> None:
    async with Management(embedded.api.removesuffix("/api/v5"), "key", "secret") as api:
        nodes, (finding,) = await broker.nodes(api)
    assert (nodes, finding.state) == ([], CheckState.SKIPPED)
    assert "the broker of emqx-im dev" in finding.what


async def test_the_ban_list_refuses_logins_until_it_ends(embedded: Embedded) -> None:
    ends = datetime.fromtimestamp(int(time.time()) + 3600, UTC).isoformat()
    ban = {"as": "username", "who": "1002", "by": "emqx-im", "reason": "rude", "until": ends}
    assert (await call(embedded, "POST", "/banned", ban))["status"] == 200
    twice = await call(embedded, "POST", "/banned", ban)
    assert (twice["status"], twice["body"]["code"]) == (400, "ALREADY_EXISTS")
    [listed] = (await call(embedded, "GET", "/banned"))["body"]["data"]
    assert {name: listed[name] for name in ban} == ban
    with pytest.raises(aiomqtt.MqttError):
        async with embedded.client("1002"):
            pass
    async with embedded.client("1003"):
        pass
    assert (await call(embedded, "DELETE", "/banned/username/1002"))["status"] == 204
    assert (await call(embedded, "DELETE", "/banned/username/1002"))["status"] == 404
    async with embedded.client("1002"):
        pass
    for bad in ({"until": "2001-01-01T00:00:00+00:00"}, {"until": "soon"}, {"as": "peerhost"}, {"who": 7}):
        assert (await call(embedded, "POST", "/banned", ban | bad))["status"] == 400
