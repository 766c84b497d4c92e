"""No log line and no answer holds a token, whatever the request looks like."""

import contextlib
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import orjson
import pytest
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.integration.app import message_body, token
from tests.integration.served import Served
from tests.servers import RedisServer, free_port

_HOOK, _ADMIN = "hOOk9tOken7aQ3xWz5Lp0Rt", "aDmin4tOken1Zp8vKq6Ys2Nd"
_PIECE = 12
"""Characters of a secret that are as bad as the whole of it."""
_QUIET_SECONDS = 0.3
"""A server that answers nothing for this long waits for more of the request: then the request is ended."""


class Places(NamedTuple):
    """The running service, the ports it listens on, and the secrets that reach it in requests."""

    service: Served
    ports: list[int]
    secrets: list[str]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def places(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    public = free_port()
    service = Served(
        tmp_path_factory.mktemp("secrets"),
        common_redis.url,
        **{"public_port": public, "cors_origins": "*", "log_level": "debug"},
        **{"hook_token": _HOOK, "admin_token": _ADMIN},
    )
    try:
        await service.wait_for("serving")
        yield Places(service, [public, service.port], [token("1001"), _HOOK, _ADMIN])
    finally:
        service.kill()


_ENDS = st.sampled_from(
    ["\r\n", "\n", "\r", "\r\n ", "\n\t", "\0\r\n", "\x7f\r\n", "\x0b\r\n", "\r\r\n", " \r\n", "\udcff\r\n"]
)
_NAMES = st.sampled_from(
    [
        *(
            "Authorization",
            "authorization ",
            "Authorization\0",
            " Authorization",
            "Auth orization",
            "",
            "Cookie",
            "Host",
        ),
        *("Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Connection", "Upgrade", "Expect"),
        *("Origin", "Sec-WebSocket-Key1", "Access-Control-Request-Headers", "Proxy-Authorization", "Referer", "Range"),
    ]
)
_VALUES = st.sampled_from(
    [
        *(
            "Bearer {}",
            "bearer  {}",
            "Bearer\t{}",
            "{}",
            "Basic {}",
            "Bearer {}\0",
            "Bearer \r{}",
            "Bearer {}\x7f",
            "{}={}",
        ),
        *(
            "Bearer {}\x0b",
            "\x01{}",
            'Digest username="{}"',
            "chunked, {}",
            "text/plain; charset={}",
            "https://{}",
            "{}:{}",
        ),
        "Bearer {}" + "x" * 20_000,
        "x" * 300_000 + " {}",
    ]
)
_TARGETS = st.sampled_from(
    [
        *("/pull?last_id=0", "/pull?last_id={}", "/pull?{}", "/{}", "/hooks/message", "/hooks/{}", "/admin/users/{}"),
        *(
            "/admin/presence?uid={}",
            "/admin/groups/{}",
            "/admin/publish",
            "/{}/%zz",
            "*",
            "http://{}/pull",
            "{}",
            "/é{}",
        ),
        *("/console/", "/console/{}", "/console/login", "/console/login?name={}", "/admin/audit?after={}"),
        *("/metrics", "http://[{}/", "/pull?last_id=0#{}", "/admin/tags/{}", "/{} {}", "/" + "x" * 300_000 + "{}"),
    ]
)
_METHODS = st.sampled_from(["GET", "POST", "OPTIONS", "PUT", "DELETE", "CONNECT", "{}", "get", "", "\x16\x03\x01"])
_VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/{}", "HTTP/2.0", "{}", ""])
_BODIES = st.sampled_from(["", "{}", '{{"uid": "{}"}}', '[["{}"]]', "5\r\n{}\r\n0\r\n\r\n", "{}\r\nnone\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> str:
    """Requests in which `{}` stands for a secret."""
    lines = [f"{draw(_METHODS)} {draw(_TARGETS)} {draw(_VERSIONS)}" + draw(st.just("\r\n") | _ENDS)]
    lines += draw(st.sampled_from([["Host: x\r\n"], []]))
    for _ in range(draw(st.integers(0, 3))):
        lines.append(f"{draw(_NAMES)}: {draw(_VALUES)}" + draw(st.just("\r\n") | _ENDS))
    lines += draw(st.sampled_from([[], [], ["Transfer-Encoding: chunked\r\n"], ["Content-Length: 40\r\n"]]))
    return "".join([*lines, draw(st.just("\r\n") | _ENDS), draw(_BODIES)])


def ask(port: int, request: bytes) -> bytes:
    """Returns what is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            connection.settimeout(_QUIET_SECONDS)
            try:
                while data := connection.recv(65536):
                    answer += data
            except TimeoutError:
                connection.settimeout(10)
                connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(65536):
                    answer += data
        return answer


def pieces(secret: str) -> list[str]:
    return [secret[start : start + _PIECE] for start in range(len(secret) - _PIECE + 1)]


@pytest.mark.parametrize("public", [True, False], ids=["public", "operators"])
@example("GET /pull?last_id=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\r\n\r\n", 0)
@example("GET /pull?last_id=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\0\r\n\r\n", 0)
@example("GET /pull?last_id=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}" + "x" * 300_000 + "\r\n\r\n", 0)
@example("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", 0)
@example("POST /hooks/{} HTTP/1.1\r\nHost: x\r\n\r\n", 1)
@example("POST /hooks/message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\x0b\r\nContent-Length: 2\r\n\r\n[]", 1)
@example("{} /pull HTTP/1.1\r\nHost: x\r\n\r\n", 2)
@given(requests(), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_nothing_echoes_a_token(places: Places, public: bool, request_text: str, number: int) -> None:
    service, ports, secrets = places
    text = request_text.replace("{}", secrets[number])
    before = len(service.log)
    answer = ask(ports[0 if public else 1], text.encode("utf-8", "surrogateescape")).decode("latin-1")
    said = service.log[before:]
    for piece in pieces(secrets[number]):
        assert piece not in answer, f"answered with a part of a token: {piece}"
        assert piece not in said, f"logged a part of a token: {piece}"


def test_a_malformed_request_is_answered_in_the_shape_of_errors(places: Places) -> None:
    for port in places.ports:
        raw = ask(
            port,
            b"GET /pull?last_id=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\0b\r\nOrigin: https://a.b\r\n\r\n",
        )
        head, _, body = raw.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"400", raw
        assert b"Content-Type: application/json" in head
        assert b'"error":{"code":"bad_request"' in body


_SAID = "whaT4they5sAid6tO7eacH8oTher"


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (orjson.dumps({"id": "1", "type": "text", "body": _SAID}), 204),
        (_SAID.encode(), 204),
        (orjson.dumps({"id": "2", "type": "im.group.kicked", "body": _SAID}), 400),
        (orjson.dumps({"id": "3", "from": "2002", "body": _SAID}), 400),
        (orjson.dumps({"id": _SAID * 10, "body": _SAID}), 400),
        (orjson.dumps({"id": "4", "type": 7, "body": _SAID}), 400),
        (b'{"id": "5", "body": "' + _SAID.encode() + b'", "bad": "\\ud800"}', 400),
        (orjson.dumps({"id": "6", "body": _SAID + "x" * 20_000}), 400),
    ],
)
async def test_nothing_that_users_say_is_logged(places: Places, payload: bytes, status: int) -> None:
    """Neither what is stored nor what is refused, at the most talkative level."""
    service = places.service
    before = len(service.log)
    body = message_body("single/1002", payload)
    headers = {"Authorization": f"Bearer {_HOOK}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{service.url}/hooks/message", json=body, headers=headers) as answer,
    ):
        assert answer.status == status, await answer.text()
    said = service.log[before:]
    for text in (_SAID, b64encode(_SAID.encode()).decode()[:-4], body["payload_b64"][:40]):
        assert not [piece for piece in pieces(text) if piece in said]
