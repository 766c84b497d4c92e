"""Tests trouble on the way: it is told and tried again, and only what can never mend itself ends a device."""

import asyncio
import json

import pytest
from aiohttp import web

from emqx_im_client import (
    Broker,
    Device,
    LoginRefused,
    MemoryState,
    PullRefused,
    Received,
    Recovered,
    Trouble,
    Unauthorized,
    health,
)
from tests.integration.client.conftest import device, received, told, until
from tests.integration.client.pulls import Answer
from tests.integration.client.service import Service, token


def says(status: int, body: str, kind: str = "text/html", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=kind, headers=headers)

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"messages": [')
    assert request.transport is not None
    request.transport.close()
    return response


def error(code: str) -> str:
    return json.dumps({"error": {"code": code, "message": "said the service"}})


ODD = {
    "a captive portal": says(200, "<html>Pay for the network</html>"),
    "an object of somebody else": says(200, "{}", "application/json"),
    "no object": says(200, "null", "application/json"),
    "a page whose cursor is none": says(
        200,
        json.dumps({"messages": [], "last_id": "x", "more": False, "truncated": False, "epoch": "e", "key": "k"}),
        "application/json",
    ),
    "a message that is none": says(
        200,
        json.dumps({"messages": [{}], "last_id": 1, "more": False, "truncated": False, "epoch": "e", "key": "k"}),
        "application/json",
    ),
    "nothing": says(200, ""),
    "a cut body": cut,
    "a redirect": says(302, "", Location="/portal"),
    "a deployment that is not there": says(404, "no such host"),
    "a firewall": says(403, "forbidden"),
    "a proxy's time limit": says(408, "timed out"),
    "another proxy": says(400, "bad request"),
    "one refused token": says(401, error("unauthorized"), "application/json"),
    "a user who is banned for a while": says(403, error("banned"), "application/json"),
    "a status of the future": says(299, "?"),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_one_odd_answer_does_not_end_a_device(service: Service, odd: Answer) -> None:
    service.store("1002", "1001", "m1")
    service.trouble = [odd, odd]
    async with device(service, 1002) as reader:
        assert isinstance(await told(reader), Trouble)
        assert (await received(reader)).message.id == "m1"
        assert await told(reader) == Recovered()
    assert len(service.pulls) >= 3


async def test_the_token_is_not_taken_to_where_a_redirect_leads(service: Service) -> None:
    """Here it leads to the service itself, which records with what it is asked."""
    service.trouble = [says(302, "", Location=f"{service.url}/pull?last_id=77")]
    async with device(service, 1002) as reader:
        assert isinstance(await told(reader), Trouble)
        assert await told(reader) == Recovered()
    assert "77" not in {pull["last_id"] for pull in service.pulls}


async def test_an_answer_without_end_is_left(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emqx_im_client.pull._MAX_BYTES", 100_000)
    service.store("1002", "1001", "m1")

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)

    service.trouble = [endless]
    async with device(service, 1002) as reader:
        assert isinstance(await told(reader), Trouble)
        assert (await received(reader)).message.id == "m1"


async def test_what_somebody_else_says_to_wait_is_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emqx_im_client.pull.MAX_RETRY_AFTER", 0.01)
    service.store("1002", "1001", "m1")
    service.trouble = [says(503, "", **{"Retry-After": "999999999"})]
    async with device(service, 1002) as reader:
        assert (await received(reader)).message.id == "m1"


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (says(403, error("not_a_uid"), "application/json"), Unauthorized),
        (says(400, error("bad_argument"), "application/json"), PullRefused),
    ],
)
async def test_the_service_itself_can_say_that_it_is_of_no_use(
    service: Service, answer: Answer, ends: type[Exception]
) -> None:
    service.deaf = True
    service.trouble = [answer]
    state = MemoryState()
    async with device(service, 1001, state) as sender:
        sent = asyncio.create_task(sender.send("single/1002", "hi"))
        with pytest.raises(ends, match="said the service"):
            await received(sender)
        with pytest.raises(ends):
            await asyncio.wait_for(sent, 10)
        with pytest.raises(ends):
            await asyncio.wait_for(sender.send("single/1002", "again"), 10)
    assert len(state.saved.unsent) == 1


async def test_another_users_token_ends_a_device_before_it_pulls_what_is_not_its_own(service: Service) -> None:
    service.store("1002", "1001", "m1")
    tokens = [token(1001), token(1002)]
    broker = Broker("127.0.0.1", service.mqtt_port)
    async with Device(1001, lambda: tokens.pop(0), broker, service.url, MemoryState()) as stranger:
        with pytest.raises(Unauthorized, match="not that of user 1001, but of '1002'"):
            await received(stranger)
    assert service.pulls == []


async def test_an_application_that_has_no_token_now_is_asked_again(service: Service) -> None:
    service.store("1002", "1001", "m1")
    answers: list[object] = [OSError("the provider is away"), "", "two words", "line\nbreak", None]

    def give() -> str:
        if answers:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]
        return token(1002) + "\n"

    broker = Broker("127.0.0.1", service.mqtt_port)
    async with Device(1002, give, broker, service.url, MemoryState()) as reader:
        trouble = await told(reader)
        assert isinstance(trouble, Trouble)
        assert "the provider is away" in trouble.reason
        assert (await received(reader)).message.id == "m1"


async def test_a_login_refused_while_the_broker_starts_is_tried_again(service: Service) -> None:
    service.refused_logins = 3
    asked = 0

    def give() -> str:
        nonlocal asked
        asked += 1
        return token(1002)

    broker = Broker("127.0.0.1", service.mqtt_port)
    async with Device(1002, give, broker, service.url, MemoryState()) as reader:
        trouble = await told(reader)
        assert type(trouble) is Trouble
        assert "refuses user 1002" in trouble.reason
        assert await told(reader) == Recovered()
    assert asked >= 5, "a token for each login, and for the pull"


async def test_a_login_refused_for_minutes_is_told_and_still_tried(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOGIN_PATIENCE", 0.5)
    service.refused_logins = 1_000_000
    async with device(service, 1002) as reader:
        assert type(await told(reader)) is Trouble
        assert type(await told(reader)) is LoginRefused
        # That the broker is away for a moment says nothing about the login.
        await service.stop_broker()
        assert "cannot be reached" in (await _trouble(reader)).reason
        await service.start_broker()
        assert type(await told(reader)) is LoginRefused
        service.refused_logins = 0
        assert await told(reader) == Recovered()


async def test_a_refused_own_topic_is_asked_for_on_another_connection(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker keeps the denial for the connection: it was undecided while it started."""
    service.store("1002", "1001", "m1")
    granted = type(service.broker.authorizer).allows
    denials = 2

    async def undecided(authorizer, username, clientid, question):  # type: ignore[no-untyped-def]
        nonlocal denials
        if question.action == "subscribe" and question.topic == "single/1002" and denials:
            denials -= 1
            return False
        return await granted(authorizer, username, clientid, question)

    monkeypatch.setattr(type(service.broker.authorizer), "allows", undecided)
    async with device(service, 1002) as reader:
        assert "subscription to single/1002" in (await _trouble(reader)).reason
        assert (await received(reader)).message.id == "m1"
        assert await told(reader) == Recovered()
    assert len(service.connects) == 3


async def test_a_message_of_the_service_that_is_not_understood_is_passed_over(service: Service) -> None:
    async with device(service, 1001) as sender:
        await until(lambda: bool(service.pulls))
        for kind, body in (
            ("im.ack", {}),
            ("im.ack", {"id": [], "mid": "x"}),
            ("im.error", {"ref": {}}),
            ("im.sync", {"head": "soon"}),
            ("im.subscribe", {"topics": 5}),
            ("im.subscribe", {"topics": [{"topic": 5}, {"topic": "#"}, {"topic": ""}], "head": 0}),
            ("im.unsubscribe", {"topics": [{}]}),
        ):
            service.tell("1001", kind, body)
        await asyncio.wait_for(sender.send("single/1002", "hi"), 10)
    assert len(service.connects) == 1


async def test_a_disk_that_is_full_for_a_while_does_not_end_a_device(service: Service) -> None:
    class Full(MemoryState):
        full = 0

        def save(self) -> None:
            if self.full:
                self.full -= 1
                raise OSError("No space left on device")

    state = Full()
    async with device(service, 1001, state) as sender:
        await asyncio.wait_for(sender.send("single/1002", "first"), 10)
        service.deaf = True
        second = asyncio.create_task(sender.send("single/1002", "second"))
        await until(lambda: len(service.published) == 2)
        state.full = 1
        service.tell("1001", "im.ack", {"id": service.published[1]["id"], "mid": 5})
        assert await asyncio.wait_for(second, 10) == 5
        assert "No space left" in (await _trouble(sender)).reason
        service.deaf = False
        await asyncio.wait_for(sender.send("single/1002", "third"), 10)


async def test_however_much_goes_wrong_while_nobody_reads_one_report_waits(service: Service) -> None:
    service.store("1002", "1001", "m1")
    service.trouble = [says(500 + number, "") for number in range(50)]
    async with device(service, 1002) as reader:
        await until(lambda: not service.trouble)
        events = [await asyncio.wait_for(anext(reader), 10)]
        while not isinstance(events[-1], Received):
            events.append(await asyncio.wait_for(anext(reader), 10))
    assert len(events) <= 2


async def _trouble(device: Device) -> Trouble:
    event = await told(device)
    assert isinstance(event, Trouble)
    return event
