"""Tests dead letters: operators list, page, replay and delete them, and nobody can make them grow without bound."""

from base64 import b64decode
from typing import Any

import orjson
import pytest

from hooks.webhook.message import MessageHook
from store.operations import dead_letters as deadletter
from store.operations.dead_letters import DeadLetters
from store.redis import keys
from store.redis.client import RedisClient
from tests.integration.app import App, message_body

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def refuse(app: App, sender: str, client_id: str = "x") -> dict[str, Any]:
    """Returns the body of a message that was refused."""
    body = message_body("single/abc", {"id": client_id}, sender)
    assert (await app.hook("message", body)).status == 400
    return body


async def test_a_letter_holds_what_came_and_why(app: App, uid: str) -> None:
    body = await refuse(app, uid)
    (letter,) = await app.letters(uid)
    assert orjson.loads(b64decode(letter["body_b64"])) == body
    assert (letter["source"], letter["reason"], letter["sender"]) == ("message", "unknown_topic", uid)
    assert abs(letter["at"] - body["timestamp"]) < 60_000
    assert letter["n"] > 0


async def test_letters_are_listed_by_pages(app: App, uid: str) -> None:
    for number in range(5):
        await refuse(app, uid, f"m{number}")
    numbers = [letter["n"] for letter in await app.letters(uid)]
    assert numbers == sorted(set(numbers))
    page = (await app.admin("GET", f"/deadletters?after={numbers[0]}&limit=2")).json["deadletters"]
    assert [letter["n"] for letter in page] == numbers[1:3]
    assert (await app.admin("GET", f"/deadletters?after={numbers[-1]}")).json == {"deadletters": []}


async def test_letters_of_a_kind_are_found(app: App, uid: str) -> None:
    for number in range(4):
        await refuse(app, uid, f"m{number}")
    letters = await app.letters(uid)

    async def found(**query: str | int) -> list[int]:
        params = {"sender": uid, **{name: str(value) for name, value in query.items()}}
        answer = await app.admin("GET", "/deadletters", params=params)
        return [letter["n"] for letter in answer.json["deadletters"]]

    numbers = [letter["n"] for letter in letters]
    assert await found() == await found(reason="unknown_topic") == numbers
    assert await found(after=numbers[1], limit=1) == [numbers[2]]
    assert await found(reason="bad_id") == []
    middle = letters[2]["at"]
    assert await found(since=middle) == [letter["n"] for letter in letters if letter["at"] >= middle]
    assert await found(until=middle) == [letter["n"] for letter in letters if letter["at"] < middle]
    assert await found(since=middle, until=middle) == []
    deleted = await app.admin("DELETE", "/deadletters", params={"sender": uid, "until": str(middle)})
    assert deleted.json["deleted"] == len(numbers) - len(await found(since=middle))
    assert await found() == await found(since=middle)


@pytest.mark.parametrize(
    "query", ["since=x", "until=-1", "after=x", "after=-1", "limit=1001", "limit=x", "limit=", "limit=0", "after=1e3"]
)
async def test_malformed_pages_are_refused(app: App, query: str) -> None:
    answer = await app.admin("GET", f"/deadletters?{query}")
    assert (answer.status, answer.code) == (400, "bad_argument")


async def test_a_letter_is_deleted_once(app: App, uid: str) -> None:
    await refuse(app, uid)
    (letter,) = await app.letters(uid)
    assert (await app.admin("DELETE", f"/deadletters/{letter['n']}")).status == 204
    assert await app.letters(uid) == []
    for method, path in (("DELETE", ""), ("POST", "/replay")):
        answer = await app.admin(method, f"/deadletters/{letter['n']}{path}")
        assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("number", ["0", "x", "-1", "9999999999999999", "1.0"])
async def test_there_is_no_such_letter(app: App, number: str) -> None:
    for method, path in (("DELETE", ""), ("POST", "/replay")):
        answer = await app.admin(method, f"/deadletters/{number}{path}")
        assert (answer.status, answer.code) == (404, "not_found")


async def test_a_letter_that_succeeds_when_replayed_is_gone(
    app: App, uid: str, other_uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = message_body(f"single/{other_uid}", {"id": "x"}, uid)
    with monkeypatch.context() as patched:
        patched.setattr(MessageHook, "_judge", lambda *_: 1 / 0)
        while (await app.hook("message", body)).status == 503:
            pass
    (letter,) = await app.letters(uid)
    assert (await app.admin("POST", f"/deadletters/{letter['n']}/replay")).status == 204
    assert await app.letters(uid) == []
    assert [each["id"] for each in await app.messages(other_uid)] == ["x"]


async def test_a_letter_that_fails_again_stays(app: App, uid: str) -> None:
    await refuse(app, uid)
    (letter,) = await app.letters(uid)
    answer = await app.admin("POST", f"/deadletters/{letter['n']}/replay")
    assert (answer.status, answer.code) == (400, "unknown_topic")
    assert await app.letters(uid) == [letter]


async def test_a_long_body_is_cut_and_cannot_be_replayed(app: App, uid: str) -> None:
    body = message_body("single/abc", b"\x00" * 80_000, uid)
    assert (await app.hook("message", body)).status == 400
    (letter,) = await app.letters(uid)
    assert (letter["cut"], len(b64decode(letter["body_b64"]))) == (True, 64 * 1024)
    answer = await app.admin("POST", f"/deadletters/{letter['n']}/replay")
    assert (answer.status, answer.code) == (409, "not_replayable")


async def test_one_sender_keeps_a_hundred(app: App, uid: str, other_uid: str) -> None:
    await refuse(app, other_uid)
    for number in range(105):
        await refuse(app, uid, f"m{number}")
    letters = await app.letters(uid)
    kept = [orjson.loads(b64decode(orjson.loads(b64decode(each["body_b64"]))["payload_b64"]))["id"] for each in letters]
    assert kept == [f"m{number}" for number in range(5, 105)]
    assert len(await app.letters(other_uid)) == 1


async def test_letters_are_counted_by_reason(app: App, uid: str) -> None:
    sample = 'emqx_im_dead_letters_total{reason="unknown_topic"}'
    before = await app.metric(sample)
    await refuse(app, uid)
    assert await app.metric(sample) == before + 1


@pytest.mark.parametrize("bearer", [None, "hook-token-1", "wrong"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/presence"),
        ("GET", "/admin/deadletters"),
        ("POST", "/admin/deadletters/1/replay"),
        ("DELETE", "/admin/deadletters/1"),
        ("GET", "/admin/x"),
        ("GET", "/admin"),
        ("GET", "/%61dmin/presence"),
    ],
)
async def test_operators_need_their_token(app: App, method: str, path: str, bearer: str | None) -> None:
    answer = await app.request(method, path, bearer)
    assert (answer.status, answer.code) == (401, "unauthorized")


# The bounds, on the store itself


@pytest.fixture
async def letters(redis: RedisClient, monkeypatch: pytest.MonkeyPatch) -> DeadLetters:
    await redis.set(keys.EPOCH, "x")
    monkeypatch.setattr(deadletter, "MAX_BYTES", 20_000)
    return DeadLetters(redis)


async def keep(letters: DeadLetters, sender: str, size: int = 1000) -> int:
    kept = await letters.keep(source="message", reason="bad_id", message="", sender=sender, body=b"x" * size)
    return kept.number


@pytest.mark.asyncio(loop_scope="function")
async def test_over_the_bound_the_biggest_senders_oldest_go(letters: DeadLetters) -> None:
    small = await keep(letters, "small")
    big = [await keep(letters, "big") for _ in range(30)]
    page = await letters.page(0, 1000)
    assert sum(len(orjson.dumps(letter)) for letter in page) <= 20_000 + 20 * len(page)
    assert page[0]["n"] == small
    kept = [letter["n"] for letter in page[1:]]
    assert kept == big[-len(kept) :]
    assert len(kept) >= 10


@pytest.mark.asyncio(loop_scope="function")
async def test_deleted_letters_make_room(letters: DeadLetters) -> None:
    for _ in range(50):
        number = await keep(letters, "one")
        assert await letters.drop(number)
        assert not await letters.drop(number)
    numbers = [await keep(letters, "other") for _ in range(10)]
    assert [letter["n"] for letter in await letters.page(0, 1000)] == numbers


@pytest.mark.asyncio(loop_scope="function")
async def test_a_sender_is_to_be_told_once_a_second(letters: DeadLetters) -> None:
    kept = [
        await letters.keep(source="message", reason="bad_id", message="", sender=sender, body=b"")
        for sender in ("1", "1", "2", "1")
    ]
    assert [each.tell for each in kept] == [True, False, True, False]


async def test_letters_of_a_kind_are_listed_and_deleted_together(app: App, uid: str) -> None:
    for number in range(3):
        await refuse(app, uid, f"m{number}")
    assert (await app.hook("message", message_body("single/1002", {"id": ""}, uid))).status == 400
    of_kind = f"sender={uid}&reason=unknown_topic"
    listed = (await app.admin("GET", f"/deadletters?{of_kind}")).json["deadletters"]
    assert [each["reason"] for each in listed] == ["unknown_topic"] * 3
    assert (await app.admin("GET", f"/deadletters?{of_kind}&limit=2")).json["deadletters"] == listed[:2]
    again = (await app.admin("POST", f"/deadletters/replay?{of_kind}")).json
    assert again == {"replayed": 0, "refused": 3, "last": listed[-1]["n"]}
    first = (await app.admin("DELETE", f"/deadletters?{of_kind}&limit=2")).json
    assert first == {"deleted": 2, "last": listed[1]["n"]}
    rest = await app.admin("DELETE", f"/deadletters?{of_kind}&after={first['last']}")
    assert rest.json == {"deleted": 1, "last": listed[2]["n"]}
    assert [each["reason"] for each in await app.letters(uid)] == ["bad_id"]
