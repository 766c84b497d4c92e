"""The console's login and sessions take any bytes for what they are: nobody is let in by them, and nothing fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.tokens.logins import COOKIE
from tests.integration.api.test_console import logged_in
from tests.integration.app import App, new_uid, running_app
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "admin-token"
_SITES = (None, b"same-origin", b"none")
_ODD = st.binary(max_size=12).filter(lambda raw: not set(raw) & set(b"\r\n\0"))
_LONG = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class Session(NamedTuple):
    """An app of its own, and the cookie and the token of a browser that is logged in."""

    app: App
    cookie: bytes
    csrf: bytes


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def session(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        # Here more logins fail than anybody may try.
        patch.setattr("hooks.console.console._FAILURES_A_MINUTE", 10**9)
        async with running_app(common_redis.url, tmp_path_factory.mktemp("logins")) as app:
            headers, held = await logged_in(app, token=TOKEN)
            yield Session(app, headers["Cookie"].encode(), held["csrf"].encode())


async def asked(app: App, start: str, headers: dict[str, bytes | None], body: bytes = b"") -> int:
    """Returns the status of a request whose headers may have any bytes."""
    lines = [f"{name}: ".encode() + value for name, value in headers.items() if value is not None]
    head = [f"{start} HTTP/1.1".encode(), b"Host: x", b"Connection: close", f"Content-Length: {len(body)}".encode()]
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    try:
        writer.write(b"\r\n".join([*head, *lines]) + b"\r\n\r\n" + body)
        async with asyncio.timeout(30):
            # What comes behind it may be cut off, where the body was not read.
            line = await reader.readuntil(b"\r\n")
    finally:
        writer.close()
    return int(line.split(b" ", 2)[1])


@st.composite
def altered(draw: st.DrawFn, whole: bytes) -> bytes:
    place = draw(st.integers(0, len(whole)))
    return whole[:place] + draw(_ODD) + whole[place + draw(st.integers(0, 3)) :]


@given(data=st.data())
@_LONG
async def test_only_a_session_with_its_token_changes_anything(session: Session, data: st.DataObject) -> None:
    """Whatever else is in cookie, token and origin, it is refused, and nothing is done."""
    app = session.app
    cookie = data.draw(st.just(session.cookie) | altered(session.cookie) | _ODD.map(lambda raw: b"x=" + raw))
    csrf = data.draw(st.none() | st.just(session.csrf) | altered(session.csrf) | _ODD)
    site = data.draw(st.sampled_from([*_SITES, b"cross-site", b"same-site", b""]) | _ODD)
    tag = f"odd-{new_uid()}"
    headers = {"Cookie": cookie, "X-CSRF-Token": csrf, "Sec-Fetch-Site": site}
    status = await asked(app, f"PUT /admin/tags/{tag}", headers, b"{}")
    genuine = cookie == session.cookie and (csrf or b"").strip() == session.csrf
    if genuine and site in _SITES:
        assert status == 204
    elif status == 204:
        # Spaces around a header, and other cookies beside ours, say nothing.
        assert session.cookie in cookie
        assert session.csrf in (csrf or b"")
    else:
        assert status in (400, 401, 403)
        assert (await app.admin("GET", f"/tags/{tag}")).status == 404


_GIVEN = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=3), max_size=2)
_FIELDS = st.fixed_dictionaries(
    {}, optional={name: _GIVEN | st.just(TOKEN) for name in ("name", "token", "once", "role")}
)


@given(given=_FIELDS | _GIVEN, cookie=st.none() | _ODD.map(lambda raw: f"{COOKIE}=".encode() + raw))
@_LONG
async def test_only_the_token_logs_in(session: Session, given: object, cookie: bytes | None) -> None:
    status = await asked(session.app, "POST /console/login", {"Cookie": cookie}, json.dumps(given).encode())
    if status == 204:
        assert isinstance(given, dict)
        assert given["token"] == TOKEN
    else:
        assert status in (400, 401)


@given(raw=st.binary(max_size=60), path=st.sampled_from(["login", "logout"]))
@_LONG
async def test_no_bytes_log_in_or_out(session: Session, raw: bytes, path: str) -> None:
    assert await asked(session.app, f"POST /console/{path}", {}, raw) in (400, 401)
