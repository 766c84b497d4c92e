"""Tests what is the same for every webhook path: tokens, sizes, unknown paths, errors nobody foresaw, odd HTTP."""

import asyncio
import gzip
import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.webhook.dispatcher import MAX_BODY, TRIES
from hooks.webhook.message import MessageHook
from tests.integration.app import App, message_body, new_uid
from tests.recorded import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOOKS = ["message", "client", "will", "authz"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("bearer", [None, "wrong", "hook-token", "hook-token-1,hook-token-2", "admin-token"])
async def test_a_wrong_token_is_refused_and_counted(app: App, hook: str, bearer: str | None) -> None:
    sample = f'emqx_im_hook_requests_total{{path="/hooks/{hook}",status="401"}}'
    before = await app.metric(sample)
    answer = await app.hook(hook, {}, bearer)
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert await app.metric(sample) == before + 1


@pytest.mark.parametrize("bearer", ["hook-token-1", "hook-token-2"])
async def test_either_token_is_accepted(app: App, uid: str, bearer: str) -> None:
    assert (await app.hook("message", message_body(f"single/{uid}", b""), bearer)).status == 204


@pytest.mark.parametrize(
    "path", ["/hooks/", "/hooks/x", "/hooks/message/", "/hooks/message/x", "/hooks/Message", "/hook"]
)
async def test_an_unknown_path_is_not_found(app: App, path: str) -> None:
    answer = await app.request("POST", path, "hook-token-1", data=b"{}")
    assert (answer.status, answer.code) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_hooks_are_posted(app: App, method: str) -> None:
    answer = await app.request(method, "/hooks/message", "hook-token-1")
    assert (answer.status, answer.code) == (405, "method_not_allowed")


@pytest.mark.parametrize("hook", HOOKS)
async def test_a_body_over_the_bound_is_refused_and_counted(app: App, hook: str) -> None:
    sample = f'emqx_im_hook_requests_total{{path="/hooks/{hook}",status="413"}}'
    before = await app.metric(sample)
    answer = await app.hook(hook, b"x" * (MAX_BODY + 1))
    assert (answer.status, answer.code) == (413, "too_large")
    assert await app.metric(sample) == before + 1


async def test_a_body_at_the_bound_is_read(app: App, uid: str) -> None:
    body = message_body(f"single/{uid}", {"id": "x"}, uid)
    raw = orjson.dumps(body)[:-1] + b" " * (MAX_BODY - len(orjson.dumps(body))) + b"}"
    assert len(raw) == MAX_BODY
    assert (await app.hook("message", raw)).status == 204
    assert len(await app.messages(uid)) == 1


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b'{"a":\xff}', b"[" * 5000])
async def test_what_is_no_json_object_is_kept(app: App, raw: bytes) -> None:
    before = len(await app.letters(""))
    answer = await app.hook("message", raw)
    assert (answer.status, answer.code) == (400, "bad_body")
    assert len(await app.letters("")) == before + 1


# Errors nobody foresaw


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(MessageHook, "_judge", fail)


@pytest.mark.usefixtures("broken")
async def test_an_unforeseen_error_is_tried_again_but_not_for_ever(app: App, uid: str) -> None:
    body = message_body("single/1", {"id": "x"}, uid)
    other = message_body("single/1", {"id": "y"}, uid)
    for _ in range(TRIES):
        answer = await app.hook("message", body)
        assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "failed", "1")
    assert await app.letters(uid) == []
    assert (await app.hook("message", other)).status == 503, "another event has its own tries"
    answer = await app.hook("message", body)
    assert (answer.status, answer.code) == (400, "internal")
    (letter,) = await app.letters(uid)
    assert letter["reason"] == "internal"
    assert (await app.hook("message", body)).status == 503, "given up once, it starts anew"


@pytest.mark.usefixtures("broken")
async def test_tries_are_counted_by_the_brokers_id(app: App, uid: str) -> None:
    body = message_body("single/1", {"id": "x"}, uid)
    statuses = [(await app.hook("message", {**body, "timestamp": n})).status for n in range(TRIES + 1)]
    assert statuses == [503] * TRIES + [400]


async def test_what_comes_through_in_the_end_is_stored(app: App, uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = message_body(f"single/{uid}", {"id": "x"})
    with monkeypatch.context() as patched:
        patched.setattr(MessageHook, "_judge", lambda *_: 1 / 0)
        assert (await app.hook("message", body)).status == 503
    assert (await app.hook("message", body)).status == 204
    assert len(await app.messages(uid)) == 1


# Odd bodies

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SOURCES = {
    **{"publish_single": "message", "publish_will": "will", "authz": "authz"},
    **dict.fromkeys(["client_connected", "client_disconnected", "delivery_dropped"], "client"),
}
RECORDED = [(hook, recorded(name)[0]) for name, hook in SOURCES.items()]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Returns a recorded body with some fields changed or gone."""
    hook, body = draw(st.sampled_from(RECORDED))
    changed = draw(st.dictionaries(st.sampled_from(sorted(body)), VALUES, max_size=3))
    gone = draw(st.sets(st.sampled_from(sorted(body)), max_size=1))
    return hook, {name: value for name, value in {**body, **changed}.items() if name not in gone}


@settings(max_examples=300)
@given(case=bodies())
async def test_whatever_comes_is_done_or_refused(app: App, case: tuple[str, dict[str, Any]]) -> None:
    """None of them fails: each is stored, or becomes a dead letter with its own code."""
    hook, body = case
    answer = await app.hook(hook, body)
    assert answer.status in (200, 204, 400), answer
    if answer.status == 400:
        assert answer.code != "internal"


# Odd HTTP


async def exchange(app: App, *pieces: bytes) -> bytes:
    """Returns what the service answers to these bytes, until it is silent or closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        answer = b""
        try:
            while True:
                async with asyncio.timeout(0.5):
                    if not (read := await reader.read(65536)):
                        return answer
                answer += read
        except TimeoutError:
            return answer
    finally:
        writer.close()


def request(body: bytes, *headers: str, path: str = "/hooks/message", method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Authorization: Bearer hook-token-1", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


def plain(uid: str, client_id: str = "x") -> bytes:
    body = orjson.dumps(message_body(f"single/{uid}", {"id": client_id}))
    return request(body, f"Content-Length: {len(body)}")


async def test_requests_on_one_connection_are_answered_in_order(app: App, uid: str) -> None:
    many = [plain(uid, f"m{n}") for n in range(20)]
    assert statuses(await exchange(app, b"".join(many))) == [204] * 20
    assert [each["id"] for each in await app.messages(uid)] == [f"m{n}" for n in range(20)]


async def test_a_request_may_come_in_pieces(app: App, uid: str) -> None:
    whole = plain(uid)
    pieces = [whole[start : start + 7] for start in range(0, len(whole), 7)]
    assert statuses(await exchange(app, *pieces)) == [204]
    assert len(await app.messages(uid)) == 1


async def test_hooks_and_other_requests_share_a_connection(app: App, uid: str) -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert statuses(await exchange(app, plain(uid, "a"), health, plain(uid, "b"), health)) == [204, 200, 204, 200]
    assert len(await app.messages(uid)) == 2


async def test_a_chunked_body_is_read(app: App, uid: str) -> None:
    body = orjson.dumps(message_body(f"single/{uid}", {"id": "x"}))
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert statuses(await exchange(app, request(chunks, "Transfer-Encoding: chunked"))) == [204]
    assert len(await app.messages(uid)) == 1


async def test_a_compressed_body_is_read(app: App, uid: str) -> None:
    body = gzip.compress(orjson.dumps(message_body(f"single/{uid}", {"id": "x"})))
    packed = request(body, f"Content-Length: {len(body)}", "Content-Encoding: gzip")
    assert statuses(await exchange(app, packed)) == [204]
    assert len(await app.messages(uid)) == 1


@pytest.mark.parametrize(
    "raw",
    [
        request(b"{}", "Content-Length: 2", "Content-Length: 3"),
        request(b"{}", "Content-Length: -2"),
        request(b"{}", "Content-Length: two"),
        request(b"{}", "Content-Length: 2", "Transfer-Encoding: chunked"),
        request(b"zz\r\n", "Transfer-Encoding: chunked"),
        request(b"not gzip", "Content-Length: 8", "Content-Encoding: gzip"),
        request(b"{}", "Content-Length: 2", "Bad Header: x"),
        b"POST /hooks/message\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
        b"POST /hooks/message HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
)
async def test_broken_http_is_refused_and_harms_nobody(app: App, uid: str, raw: bytes) -> None:
    answered = statuses(await exchange(app, raw))
    assert all(400 <= status < 500 for status in answered)
    assert (await app.publish(f"single/{uid}", {"id": "x"})).status == 204


async def test_a_connection_that_is_closed_half_way_harms_nobody(app: App) -> None:
    uid = new_uid()
    whole = plain(uid)
    for length in (5, len(whole) // 2, len(whole)):
        _, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(whole[:length])
        await writer.drain()
        writer.close()
    assert (await app.publish(f"single/{uid}", {"id": "x"})).status == 204
    assert len(await app.messages(uid)) == 1
