"""Answers of the authorizer: counted, kept, dropped, and missing while EMQX does not reach the service."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientTimeout, web
from amqtt.mqtt import SubscribePacket

from hooks.dev import authorization
from tests.integration.dev.conftest import Embedded, RawClient, bound, until
from tests.integration.dev.test_rest import call


async def status(embedded: Embedded) -> dict[str, Any]:
    answer = await call(embedded, "GET", "/authorization/sources/http/status")
    assert answer["status"] == 200
    body: dict[str, Any] = answer["body"]
    return body


async def granted(client: RawClient, topic: str) -> bool:
    await client.send(SubscribePacket.build([(topic, 1)], 7).to_bytes())
    answer = await client.receive()
    assert answer[:1] == b"\x90"
    return answer[-1] != 0x80


async def test_answers_are_counted_as_emqx_counts_them(embedded: Embedded) -> None:
    answers = iter(
        [
            web.json_response({"result": "allow"}),
            web.Response(status=204),
            web.json_response({"result": "deny"}),
            web.json_response({"result": "ignore"}),
            web.Response(status=503),
            web.Response(status=500),
            web.json_response({"result": "perhaps"}),
            web.Response(text='{"result": "allow"}'),
            web.Response(status=202),
        ]
    )

    async def next_answer(question: dict[str, Any]) -> web.Response:
        return next(answers)

    embedded.service.authorize = next_answer
    client = await embedded.raw("1001")
    assert [await granted(client, f"group/{gid}") for gid in range(1, 10)] == [True] * 2 + [False] * 7
    assert await granted(client, "single/1001")
    counted = await status(embedded)
    assert counted["status"] == "connected"
    rates = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}
    assert counted["metrics"] == {"total": 9, "allow": 2, "deny": 1, "ignore": 3, "nomatch": 3, **rates}
    assert counted["resource_metrics"] == {"matched": 9, "success": 7, "failed": 1, **rates}
    [node] = counted["node_metrics"]
    assert node["metrics"] == counted["metrics"]
    assert counted["node_status"] == [{"node": node["node"], "status": "connected"}]
    assert [each["metrics"] for each in counted["node_resource_metrics"]] == [counted["resource_metrics"]]
    assert counted["node_error"] == []
    assert (await call(embedded, "GET", "/authorization/sources/redis/status"))["status"] == 404
    client.abort()


async def test_a_question_that_nobody_answers_is_denied_and_the_denial_kept(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization, "_TIMEOUT", ClientTimeout(total=0.2))
    silent = asyncio.Event()

    async def never(question: dict[str, Any]) -> web.Response:
        await silent.wait()
        return web.json_response({"result": "allow"})

    embedded.service.authorize = never
    client = await embedded.raw("1001")
    assert not await granted(client, "group/7")
    silent.set()
    assert not await granted(client, "group/7")
    assert (await status(embedded))["metrics"]["ignore"] == 1
    assert (await call(embedded, "DELETE", "/authorization/cache"))["status"] == 204
    assert await granted(client, "group/7")
    client.abort()


async def test_dropping_all_permissions_reaches_every_client(embedded: Embedded) -> None:
    async def deny(question: dict[str, Any]) -> web.Response:
        return web.json_response({"result": "deny"})

    allow, embedded.service.authorize = embedded.service.authorize, deny
    clients = [await embedded.raw(username) for username in ("1001", "1002")]
    assert [await granted(client, "group/7") for client in clients] == [False, False]
    embedded.service.authorize = allow
    assert [await granted(client, "group/7") for client in clients] == [False, False]
    assert (await call(embedded, "DELETE", "/authorization/cache"))["status"] == 204
    assert [await granted(client, "group/7") for client in clients] == [True, True]
    assert len(embedded.service.questions) == 4
    for client in clients:
        client.abort()


async def test_the_answer_to_a_question_in_hand_outlives_the_dropping_of_all(embedded: Embedded) -> None:
    """EMQX compares the time at which it kept an answer, which is later, with that of the call."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def late(question: dict[str, Any]) -> web.Response:
        asked.set()
        await answer.wait()
        return web.json_response({"result": "deny"})

    embedded.service.authorize = late
    client = await embedded.raw("1001")
    asking = asyncio.create_task(granted(client, "group/7"))
    await asked.wait()
    await call(embedded, "DELETE", "/authorization/cache")
    answer.set()
    assert not await asking
    assert not await granted(client, "group/7")
    assert len(embedded.service.questions) == 1
    client.abort()


async def test_a_short_outage_is_not_noticed_and_over_as_soon_as_the_service_is_back(embedded: Embedded) -> None:
    authorizer, client = embedded.broker.authorizer, await embedded.raw("1001")
    here, authorizer._url = authorizer._url, nowhere()
    assert not await granted(client, "group/1")
    counted = await status(embedded)
    metrics, failed = counted["metrics"], counted["resource_metrics"]["failed"]
    assert (counted["status"], metrics["ignore"], failed) == ("connected", 1, 0)
    authorizer._url = here
    assert await granted(client, "group/2")
    client.abort()


async def test_after_an_outage_that_was_noticed_nothing_is_asked_for_a_while(embedded: Embedded) -> None:
    embedded.faults.reconnect_seconds = 60.0
    authorizer, client = embedded.broker.authorizer, await embedded.raw("1001")
    here, authorizer._url = authorizer._url, nowhere()
    assert not await granted(client, "group/1")
    authorizer._url = here
    assert not await granted(client, "group/2")
    counted = await status(embedded)
    assert (counted["status"], counted["metrics"]["ignore"]) == ("disconnected", 2)
    authorizer._look_again_at -= 60
    assert not await granted(client, "group/2")
    assert await granted(client, "group/3")
    assert [question["topic"] for question in embedded.service.questions] == ["group/3"]
    assert (await status(embedded))["status"] == "connected"
    client.abort()


def nowhere() -> str:
    """Returns where nobody listens."""
    with bound() as nobody:
        return f"http://127.0.0.1:{nobody.getsockname()[1]}/hooks/authz"


async def test_while_it_boots_the_broker_lets_anybody_in(embedded: Embedded) -> None:
    """With any password; the rules hear nothing, and what is refused stays refused when all is well."""
    embedded.faults.booting = True
    intruder = await embedded.raw("1001", password="wrong")
    phone = await embedded.raw("1002", "phone")
    assert not await granted(phone, "single/1002")
    assert (await call(embedded, "GET", "/nodes"))["status"] == 200
    embedded.faults.booting = False
    assert not await granted(phone, "single/1002")
    assert await granted(intruder, "single/1001")
    connected = {client["username"] for client in (await call(embedded, "GET", "/clients"))["body"]["data"]}
    assert connected == {"1001", "1002"}
    await call(embedded, "DELETE", "/clients/1001-raw")
    await until(lambda: embedded.service.of("1001-raw") == ["session.subscribed", "client.disconnected kicked"])
    assert embedded.service.of("1002-phone") == []
    for client in (intruder, phone):
        client.abort()


async def test_node_and_status(embedded: Embedded) -> None:
    async with embedded.client("1001", clean_session=False):
        [node] = (await call(embedded, "GET", "/nodes"))["body"]
        assert {"node_status": "running", "version": "5.8.9", "connections": 1, "live_connections": 1}.items() <= (
            node.items()
        )
        first = node["uptime"]
        assert isinstance(first, int)
        assert 0 <= first < 600_000
    url = embedded.api.removesuffix("/api/v5") + "/status"
    async with embedded.http.get(url) as response:
        assert response.status == 200
        assert await response.text() == f"Node {node['node']} is started\nemqx is running"
