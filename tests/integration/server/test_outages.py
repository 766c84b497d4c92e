"""Redis, the archive or EMQX's REST API away: everything is answered in time, and nothing is lost."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.redis.connection import connect
from tests.integration.app import Answer, App, message_body, new_uid, running_app, until
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

IN_TIME = 5.0
"""Seconds within which the broker is answered, whatever is away."""


@pytest_asyncio.fixture(loop_scope="session")
async def fragile(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[App]:
    """A service on a Redis that its test may harm."""
    async with running_app(own_redis.url, tmp_path) as running:
        yield running


def asked(app: App, uid: str) -> dict[str, Callable[[], Awaitable[Answer]]]:
    """Returns all requests that need Redis."""
    return {
        "message": lambda: app.publish(f"single/{uid}", {"id": "during"}),
        "refused message": lambda: app.publish("single/abc", {"id": "x"}, uid),
        "malformed message": lambda: app.hook("message", b"{"),
        "connect": lambda: app.hook("client", recorded("client_connected")[0]),
        "disconnect": lambda: app.hook("client", recorded("client_disconnected")[0]),
        "will": lambda: app.hook("will", recorded("publish_will")[0]),
        "pull": lambda: app.pull(uid),
        "waiting pull": lambda: app.pull(uid, wait=60),
        "presence": lambda: app.admin("GET", "/presence"),
        "presence of users": lambda: app.admin("GET", f"/presence?uid={uid}"),
        "dead letters": lambda: app.admin("GET", "/deadletters"),
        "replay": lambda: app.admin("POST", "/deadletters/1/replay"),
        "readiness": lambda: app.request("GET", "/readyz"),
    }


async def stored(app: App, uid: str, client_id: str) -> None:
    """Sends like the broker: again and again until it is done."""
    body = message_body(f"single/{uid}", {"id": client_id})

    async def done() -> bool:
        answer = await app.hook("message", body)
        assert answer.status in (204, 503), answer
        return answer.status == 204

    await until(done)


def kill(server: RedisServer) -> None:
    server.kill()


def hang(server: RedisServer) -> None:
    server.hang()


@pytest.mark.parametrize(
    ("harm", "mend"), [(kill, RedisServer.start), (hang, RedisServer.resume)], ids=["killed", "hangs"]
)
async def test_redis_away(
    fragile: App,
    own_redis: RedisServer,
    uid: str,
    harm: Callable[[RedisServer], None],
    mend: Callable[[RedisServer], None],
) -> None:
    await stored(fragile, uid, "before")
    harm(own_redis)
    requests = asked(fragile, uid)

    async def timed(ask: Callable[[], Awaitable[Answer]]) -> tuple[Answer, float]:
        started = time.monotonic()
        return await ask(), time.monotonic() - started

    async with asyncio.timeout(30):
        answers = dict(zip(requests, await asyncio.gather(*map(timed, requests.values())), strict=True))
    for name, (answer, seconds) in answers.items():
        assert answer.status == 503, name
        assert answer.code == "redis_away", name
        assert seconds < IN_TIME, name
        if name != "readiness":
            assert answer.headers["Retry-After"] == "1", name
    assert (await fragile.hook("authz", recorded("authz")[0])).json == {"result": "allow"}
    assert (await fragile.request("GET", "/healthz")).status == 200
    assert await fragile.metric("emqx_im_redis_up") == 0
    mend(own_redis)
    await stored(fragile, uid, "during")
    await stored(fragile, uid, "after")
    assert [each["id"] for each in await fragile.messages(uid)] == ["before", "during", "after"]
    assert await fragile.metric("emqx_im_redis_up") == 1
    assert (await fragile.request("GET", "/readyz")).status == 200


async def test_a_wait_begun_before_ends_when_redis_dies(fragile: App, own_redis: RedisServer, uid: str) -> None:
    pull = asyncio.create_task(fragile.pull(uid, wait=60))

    async def waits() -> bool:
        return await fragile.metric("emqx_im_waiting_pulls") == 1

    await until(waits)
    own_redis.kill()
    async with asyncio.timeout(IN_TIME):
        assert (await pull).status == 503
    own_redis.start()


async def test_a_wiped_redis_begins_a_new_epoch(fragile: App, own_redis: RedisServer, uid: str) -> None:
    await stored(fragile, uid, "before")
    before = (await fragile.pull(uid)).json
    assert (await fragile.pull(uid, before["last_id"], epoch=before["epoch"])).json["messages"] == []

    await until(lambda: archived(fragile))
    async with connect(own_redis.url) as redis:
        await redis.flushall()
    statuses = set()

    async def done() -> bool:
        answer = await fragile.publish(f"single/{uid}", {"id": "after"})
        statuses.add(answer.status)
        return answer.status == 204

    await until(done)
    assert statuses <= {204, 503}
    after = (await fragile.pull(uid, before["last_id"], epoch=before["epoch"])).json
    assert after["epoch"] != before["epoch"]
    assert after["reset"] is True
    assert [each["id"] for each in after["messages"]][-1] == "after"
    assert after["messages"][-1]["mid"] > before["last_id"]
    again = (await fragile.pull(uid, after["last_id"], epoch=after["epoch"])).json
    assert (again["messages"], "reset" in again) == ([], False)


async def test_an_empty_redis_stores_nothing_before_it_has_an_epoch(
    fragile: App, own_redis: RedisServer, uid: str
) -> None:
    """Messages that came while it was empty are asked again, not half stored."""
    async with connect(own_redis.url) as redis:
        for _ in range(20):
            await redis.flushall()
            answer = await fragile.publish(f"single/{uid}", {"id": "x"})
            if answer.status == 503:
                break
        assert (answer.status, answer.code) == (503, "store_empty")
    await stored(fragile, uid, "x")
    assert [each["id"] for each in await fragile.messages(uid)] == ["x"]


async def test_a_full_outbox_refuses_writes_until_the_archive_is_back(
    own_redis: RedisServer, tmp_path: Path, uid: str
) -> None:
    async with running_app(own_redis.url, tmp_path, outbox_limit=2000) as app:
        await app.end(uid)
        await stored(app, uid, "first")
        archive = sqlite3.connect(tmp_path / "archive.db", isolation_level=None, timeout=0)
        with closing(archive) as other_writer:
            await until(lambda: held(other_writer))
            accepted = 0
            while (answer := await app.publish(f"single/{uid}", {"id": f"m{accepted}"})).status == 204:
                accepted += 1
                assert accepted < 100
            assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "outbox_full", "1")
            assert len(await app.messages(uid)) == 1 + accepted, "pulls go on"

            async def writes_wait() -> bool:
                return (await app.pull(uid)).json.get("writes_wait") is True

            await until(writes_wait)
            ready = await app.request("GET", "/readyz")
            assert ready.status == 200, "and so does the service"
            assert ready.json["archive"]["outbox_bytes"] >= 2000
            assert await app.metric("emqx_im_outbox_bytes") >= 2000
        await stored(app, uid, "last")
        assert [each["id"] for each in await app.messages(uid)][-1] == "last"
        assert len(await app.messages(uid)) == accepted + 2
        await until(lambda: archived(app))
        assert await app.metric("emqx_im_archived_total") == accepted + 2

    with closing(sqlite3.connect(tmp_path / "archive.db")) as archive:
        assert archive.execute("SELECT count(*) FROM message").fetchone() == (accepted + 2,)


async def archived(app: App) -> bool:
    """Returns whether nothing is left in the outbox."""
    state = (await app.request("GET", "/readyz")).json
    return bool(state["archive"]["outbox_length"] == 0)


async def held(archive: sqlite3.Connection) -> bool:
    """Returns whether this connection keeps all others from writing."""
    with suppress(sqlite3.OperationalError):
        archive.execute("BEGIN IMMEDIATE")
    return archive.in_transaction


# EMQX's REST API


async def acknowledged(app: App, uid: str) -> list[dict[str, Any]]:
    async def told() -> list[dict[str, Any]]:
        return app.emqx.told(uid)

    return list(await until(told))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_control_messages_wait_for_a_broker_that_is_away(app: App, uid: str, status: int) -> None:
    app.emqx.status = status
    try:
        before = len(app.emqx.requests)
        assert (await app.publish(f"single/{uid}", {"id": "x", "ack": True}, uid)).status == 204

        async def tried_again() -> bool:
            return len(app.emqx.requests) >= before + 2

        await until(tried_again)
        assert app.emqx.told(uid) == []
    finally:
        app.emqx.status = 200
    (ack,) = await acknowledged(app, uid)
    assert ack["body"]["id"] == "x"


async def test_what_the_broker_will_never_take_is_counted(app: App, uid: str, other_uid: str) -> None:
    sample = 'emqx_im_control_messages_dropped_total{reason="refused"}'
    before = await app.metric(sample)
    app.emqx.status = 401
    try:
        await app.publish(f"single/{uid}", {"id": "x", "ack": True}, uid)

        async def given_up() -> bool:
            return await app.metric(sample) > before

        await until(given_up)
    finally:
        app.emqx.status = 200
    await app.publish(f"single/{uid}", {"id": "y", "ack": True}, other_uid)
    await acknowledged(app, other_uid)
    assert app.emqx.told(uid) == []


async def test_the_broker_is_asked_with_key_and_secret(app: App, uid: str) -> None:
    await app.publish(f"single/{uid}", {"id": "x", "ack": True}, uid)
    await acknowledged(app, uid)
    assert app.emqx.requests[-1].headers["Authorization"] == "Basic a2V5OmFwaS1zZWNyZXQ="


async def test_without_a_broker_messages_are_stored_all_the_same(
    own_redis: RedisServer, tmp_path: Path, uid: str
) -> None:
    async with running_app(own_redis.url, tmp_path, emqx_api_url=None) as app:
        await stored(app, uid, "x")
        assert (await app.publish(f"single/{uid}", {"id": "y", "ack": True}, uid)).status == 204
        assert await app.metric('emqx_im_control_messages_dropped_total{reason="no_api"}') == 1


# Stopping


async def test_a_stop_finishes_what_was_accepted_and_takes_nothing_new(
    own_redis: RedisServer, tmp_path: Path, uid: str
) -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running_app(own_redis.url, tmp_path))
        await stored(app, uid, "before")
        own_redis.hang()
        accepted = asyncio.create_task(app.publish(f"single/{uid}", {"id": "accepted"}))
        for _ in range(3):
            # What needs no Redis is answered after what was sent before has been read.
            assert (await app.hook("authz", recorded("authz")[0])).status == 200
        assert not accepted.done()
        stopping = asyncio.create_task(stack.pop_all().aclose())

        async def refused() -> bool:
            answer = await app.publish(f"single/{uid}", {"id": "late"})
            return (answer.status, answer.code) == (503, "shutting_down")

        await until(refused, 2)
        # A question that is refused is a denial that nobody decided: EMQX keeps it.
        assert (await app.hook("authz", recorded("authz")[0])).json == {"result": "allow"}
        own_redis.resume()
        assert (await accepted).status == 204
        await stopping
    async with running_app(own_redis.url, tmp_path) as app:
        assert [each["id"] for each in await app.messages(uid)] == ["before", "accepted"]


async def test_a_stop_answers_questions_that_are_held(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        topic = f"group/{await app.group(uid)}"
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running_app(own_redis.url, tmp_path))
        own_redis.hang()
        question = {**recorded("authz")[0], "username": uid, "action": "subscribe", "topic": topic}
        asking = asyncio.create_task(app.hook("authz", question))
        # What needs no Redis is answered after what was sent before has been read.
        assert (await app.hook("authz", recorded("authz")[0])).status == 200
        stopping = asyncio.create_task(stack.pop_all().aclose())
        done, _ = await asyncio.wait([asking], timeout=1)
        assert not done
        own_redis.resume()
        assert (await asking).json == {"result": "allow"}
        await stopping


async def test_a_stop_answers_pulls_that_wait(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        pull = asyncio.create_task(app.pull(uid, wait=60))

        async def waits() -> bool:
            return await app.metric("emqx_im_waiting_pulls") == 1

        await until(waits)
        started = time.monotonic()
    answer = await pull
    assert (answer.status, answer.json["messages"]) == (200, [])
    assert time.monotonic() - started < 10


async def test_a_stop_does_not_wait_for_a_redis_that_hangs(own_redis: RedisServer, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running_app(own_redis.url, tmp_path))
        await stored(app, new_uid(), "before")
        own_redis.hang()
        async with asyncio.timeout(20):
            await stack.aclose()
    own_redis.resume()
