"""`GET /pull`: chains of cursors, waiting, rates, epochs, the window and the size of an answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hooks.tokens.bearer import receiver_key
from tests.integration.app import SECRETS, Answer, App, new_uid, running_app, token, until
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def cursor(app: App, uid: str) -> int:
    """The user's cursor after everything that was there before the test."""
    return await app.end(uid)


async def send(app: App, uid: str, *client_ids: str) -> None:
    for client_id in client_ids:
        assert (await app.publish(f"single/{uid}", {"id": client_id})).status == 204


def ids(answer: Answer) -> list[str]:
    return [each["id"] for each in answer.json["messages"]]


# Chains


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
async def test_a_chain_of_cursors_gives_each_message_once(app: App, uid: str, cursor: int, limit: int) -> None:
    await send(app, uid, *(f"m{n}" for n in range(7)))
    assert (await app.publish("business/global", {"id": f"g{uid}"}, "ops")).status == 204
    await send(app, uid, "last")
    received: list[dict[str, Any]] = []
    while True:
        answer = (await app.pull(uid, cursor, limit=limit)).json
        assert len(answer["messages"]) <= limit
        received += answer["messages"]
        assert answer["last_id"] >= cursor
        cursor = answer["last_id"]
        if not answer["more"]:
            break
    assert [each["id"] for each in received] == [*(f"m{n}" for n in range(7)), f"g{uid}", "last"]
    order = [each["last_id"] for each in received]
    assert order == sorted(set(order))
    assert cursor >= order[-1]


async def test_what_was_acknowledged_is_in_the_next_pull(app: App, uid: str, cursor: int) -> None:
    for number in range(30):
        await send(app, uid, f"m{number}")
        answer = await app.pull(uid, cursor)
        assert ids(answer) == [f"m{number}"]
        cursor = answer.json["last_id"]


async def test_concurrent_writers_and_readers_miss_nothing(app: App, uid: str, cursor: int) -> None:
    writing = asyncio.gather(*(send(app, uid, *(f"{w}-{n}" for n in range(20))) for w in range(8)))
    received: list[str] = []
    while not writing.done() or len(received) < 160:
        answer = await app.pull(uid, cursor, limit=7)
        received += ids(answer)
        cursor = answer.json["last_id"]
    await writing
    assert len(received) == len(set(received)) == 160
    for w in range(8):
        assert [each for each in received if each.startswith(f"{w}-")] == [f"{w}-{n}" for n in range(20)]


async def test_a_new_user_reads_from_the_start_of_the_window(app: App, uid: str) -> None:
    answer = (await app.pull(uid, 0)).json
    assert answer["truncated"] is False
    assert "reset" not in answer
    assert answer["key"] == receiver_key(SECRETS["secret"], uid)
    assert answer["epoch"]


async def test_every_user_has_a_key_of_his_own(app: App, uid: str, other_uid: str) -> None:
    keys = {(await app.pull(each)).json["key"] for each in (uid, other_uid)}
    assert len(keys) == 2


# Refused


@pytest.mark.parametrize(
    "query",
    [
        "",
        "last_id=",
        "last_id=-1",
        "last_id=x",
        "last_id=1e3",
        "last_id=1.0",
        "last_id=9007199254740992",
        "last_id=1&last_id=2",
        "last_id=0&limit=0",
        "last_id=0&limit=1001",
        "last_id=0&limit=x",
        "last_id=0&limit=",
        "last_id=0&wait=61",
        "last_id=0&wait=-1",
        "last_id=0&wait=x",
        "last_id=0&epoch=%C3%A9",
        "last_id=0&epoch=a%20b",
        f"last_id=0&epoch={'x' * 65}",
        "last_id=0&epoch=a&epoch=b",
        "last_id=%00",
    ],
)
async def test_bad_arguments_are_refused(app: App, uid: str, query: str) -> None:
    answer = await app.request("GET", f"/pull?{query}", token(uid))
    assert (answer.status, answer.code) == (400, "bad_argument")


@pytest.mark.parametrize(
    ("bearer", "status", "code"),
    [
        (None, 401, "unauthorized"),
        ("x", 401, "unauthorized"),
        ("\udcff", 401, "unauthorized"),
        (token("1001", exp=1), 401, "unauthorized"),
        ("x" * 16_385, 401, "unauthorized"),
        (token("ops"), 403, "not_a_uid"),
        (token("0"), 403, "not_a_uid"),
    ],
)
async def test_bad_tokens_are_refused_and_counted(app: App, bearer: str | None, status: int, code: str) -> None:
    refused = f'emqx_im_pulls_refused_total{{code="{code}"}}'
    before = await app.metric(refused)
    answer = await app.request("GET", "/pull?last_id=0", bearer)
    assert (answer.status, answer.code) == (status, code)
    assert await app.metric(refused) == before + 1


async def test_a_user_pulls_only_so_often(own_redis: RedisServer, tmp_path: Path, uid: str, other_uid: str) -> None:
    async with running_app(own_redis.url, tmp_path, pull_rate=3) as app:
        answers = await asyncio.gather(*(app.pull(uid) for _ in range(5)))
        refused = [answer for answer in answers if answer.status != 200]
        assert len(refused) == 2
        for answer in refused:
            assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "too_many_pulls", "1")
        assert (await app.pull(other_uid)).status == 200

        async def again() -> bool:
            return (await app.pull(uid)).status == 200

        await until(again, 3)


# Waiting


@asynccontextmanager
async def waiting(app: App, uid: str, cursor: int, seconds: int = 30) -> AsyncIterator[asyncio.Task[Answer]]:
    """Yields a pull that waits, once the service holds it."""
    before = await app.metric("emqx_im_waiting_pulls")
    pull = asyncio.create_task(app.pull(uid, cursor, wait=seconds))

    async def held() -> bool:
        return pull.done() or await app.metric("emqx_im_waiting_pulls") > before

    await until(held)
    try:
        yield pull
    finally:
        pull.cancel()


async def test_a_waiting_pull_is_answered_when_a_message_comes(app: App, uid: str, cursor: int) -> None:
    async with waiting(app, uid, cursor) as pull:
        assert not pull.done()
        await send(app, new_uid(), "elsewhere")
        await send(app, uid, "x")
        async with asyncio.timeout(20):
            assert ids(await pull) == ["x"]


async def test_a_waiting_pull_is_answered_when_one_comes_for_all(app: App, uid: str, cursor: int) -> None:
    async with waiting(app, uid, cursor) as pull:
        await app.publish("business/global", {"id": f"g{uid}"}, "ops")
        async with asyncio.timeout(20):
            assert ids(await pull) == [f"g{uid}"]


async def test_the_senders_other_devices_are_woken(app: App, uid: str, other_uid: str, cursor: int) -> None:
    async with waiting(app, uid, cursor) as pull:
        await app.publish(f"single/{other_uid}", {"id": "x"}, uid)
        async with asyncio.timeout(20):
            assert ids(await pull) == ["x"]


async def test_a_pull_does_not_wait_for_what_is_there(app: App, uid: str, cursor: int) -> None:
    await send(app, uid, "x")
    async with asyncio.timeout(20):
        assert ids(await app.pull(uid, cursor, wait=60)) == ["x"]


async def test_a_wait_ends_empty(app: App, uid: str, cursor: int) -> None:
    started = time.monotonic()
    answer = await app.pull(uid, cursor, wait=1)
    assert ids(answer) == []
    assert answer.json["last_id"] >= cursor
    assert 0.9 <= time.monotonic() - started < 20


async def test_four_pulls_of_a_user_wait_and_no_more(app: App, uid: str, cursor: int) -> None:
    async with AsyncExitStack() as stack:
        pulls = [await stack.enter_async_context(waiting(app, uid, cursor)) for _ in range(4)]
        answer = await app.pull(uid, cursor, wait=1)
        assert (answer.status, answer.code) == (429, "too_many_waiting")
        assert "Retry-After" in answer.headers
        assert (await app.pull(uid, cursor)).status == 200
        await send(app, uid, "x")
        async with asyncio.timeout(20):
            assert [ids(answer) for answer in await asyncio.gather(*pulls)] == [["x"]] * 4
    assert (await app.pull(uid, cursor, wait=1)).status == 200


# Epochs and cursors of elsewhere


async def test_the_known_epoch_changes_nothing(app: App, uid: str, cursor: int) -> None:
    await send(app, uid, "x")
    epoch = (await app.pull(uid, cursor)).json["epoch"]
    answer = await app.pull(uid, cursor, epoch=epoch)
    assert ids(answer) == ["x"]
    assert "reset" not in answer.json


async def test_another_epoch_starts_at_the_windows_edge(app: App, uid: str, cursor: int) -> None:
    await send(app, uid, "x")
    after = (await app.pull(uid, cursor)).json["last_id"]
    answer = await app.pull(uid, after, epoch="another", limit=1000)
    assert answer.json["reset"] is True
    assert answer.json["truncated"] is False
    assert "x" in ids(answer)


@pytest.mark.parametrize("ahead", [10_000_000, 2**53 - 1])
async def test_a_cursor_above_the_clock_is_of_another_epoch(app: App, uid: str, cursor: int, ahead: int) -> None:
    await send(app, uid, "x")
    beyond = min(time.time_ns() // 1000 + ahead, 2**53 - 1)
    answer = await app.pull(uid, beyond, limit=1000)
    assert answer.json["reset"] is True
    assert "x" in ids(answer)
    await send(app, uid, "y")
    (message,) = [each for each in await app.messages(uid) if each["id"] == "y"]
    assert message["mid"] < time.time_ns() // 1000 + 5_000_000, "it never moves the clock"


async def test_a_cursor_a_little_above_the_clock_stands(app: App, uid: str, cursor: int) -> None:
    ahead = time.time_ns() // 1000 + 2_000_000
    answer = (await app.pull(uid, ahead)).json
    assert "reset" not in answer
    assert (answer["last_id"], answer["messages"]) == (ahead, [])


# The window


async def test_what_is_older_than_the_window_is_gone(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    window = 3.0
    async with running_app(own_redis.url, tmp_path, retention_days=window / 86_400) as app:
        await send(app, uid, "old")
        old = (await app.messages(uid))[0]["last_id"]

        async def gone() -> bool:
            return not await app.messages(uid)

        await until(gone)
        await send(app, uid, "new")
        answer = await app.pull(uid, old)
        assert (ids(answer), answer.json["truncated"]) == (["new"], True)
        answer = await app.pull(uid, 0)
        assert (ids(answer), answer.json["truncated"]) == (["new"], False)
        answer = await app.pull(uid, time.time_ns() // 1000 - int(window * 1_000_000 / 2))
        assert (ids(answer), answer.json["truncated"]) == (["new"], False)


async def test_cursors_of_quiet_users_stay_in_the_window(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path, retention_days=6 / 86_400) as app:
        cursor = (await app.pull(uid, 0)).json["last_id"]
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            answer = (await app.pull(uid, cursor, wait=1)).json
            assert answer["truncated"] is False
            assert answer["last_id"] >= cursor
            cursor = answer["last_id"]


async def test_an_answer_holds_two_mebibytes(app: App, uid: str, cursor: int) -> None:
    for number in range(170):
        await send(app, uid, f"{number}") if number % 2 else await app.publish(f"single/{uid}", b"\xff" * 16_000)
    received = 0
    pages = 0
    while True:
        answer = await app.pull(uid, cursor, limit=1000)
        assert len(answer.raw) <= 2 * 1024 * 1024 + 1000
        received += len(ids(answer))
        pages += 1
        cursor = answer.json["last_id"]
        if not answer.json["more"]:
            break
    assert received == 170
    assert pages == 1 + 85 * 16_000 * 4 // 3 // (2 * 1024 * 1024)


# Sending devices


async def test_without_sync_a_sender_does_not_see_his_own(own_redis: RedisServer, tmp_path: Path) -> None:
    sender, receiver = new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path, sync_sender=False) as app:
        assert (await app.publish(f"single/{receiver}", {"id": "x"}, sender)).status == 204
        assert (await app.publish(f"single/{sender}", {"id": "self"}, sender)).status == 204
        assert [each["id"] for each in await app.messages(receiver)] == ["x"]
        assert [each["id"] for each in await app.messages(sender)] == ["self"]
