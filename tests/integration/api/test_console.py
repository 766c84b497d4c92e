"""Tests the console's login, its cookie, and where it is served. Browsers try the pages in tests/e2e."""

from pathlib import Path
from typing import Any

import pytest

from hooks.tokens.logins import COOKIE
from hooks.tokens.operators import OPERATOR
from tests.integration.app import Answer, App, new_uid, running_app
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def logged_in(app: App, **given: str) -> tuple[dict[str, str], Any]:
    """Returns the headers of a browser after its login, and what the page knows of its session."""
    answer = await app.request("POST", "/console/login", json={"name": "Zoë", **given})
    assert answer.status == 204, answer.raw
    cookie = str(answer.headers["Set-Cookie"])
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    headers = {"Cookie": cookie.partition(";")[0]}
    return headers, (await app.request("GET", "/console/session", headers=headers)).json


async def test_a_session_may_do_what_the_token_may(app: App) -> None:
    headers, session = await logged_in(app, token="admin-token")
    assert (session["name"], session["role"]) == ("Zoë", OPERATOR)
    tag = f"/admin/tags/console-{new_uid()}"
    assert (await app.request("GET", "/admin/presence", headers=headers)).status == 200
    for wrong in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": session["csrf"], "Sec-Fetch-Site": "cross-site"}):
        forged = await app.request("PUT", tag, headers={**headers, **wrong}, json={})
        assert (forged.status, forged.code) == (403, "forged")
    assert (await app.admin("GET", tag.removeprefix("/admin"))).status == 404
    done = await app.request("PUT", tag, headers={**headers, "X-CSRF-Token": session["csrf"]}, json={})
    assert done.status == 204
    newest = (await app.admin("GET", "/audit?limit=2")).json["audit"]
    assert [(each["name"], each["call"]) for each in newest] == [
        ("Zoë", f"PUT {tag}"),
        ("Zoë", "POST /console/login"),
    ]


async def test_who_is_not_let_in(app: App) -> None:
    async def login(**given: Any) -> Answer:
        return await app.request("POST", "/console/login", json=given)

    wrong = await login(name="Eve", token="nope")
    assert (wrong.status, wrong.code) == (401, "unauthorized")
    for given in ({"name": "", "token": "admin-token"}, {"token": "admin-token"}, {"name": "x" * 129, "token": "t"}):
        assert (await login(**given)).code == "bad_argument"
    far = {"Sec-Fetch-Site": "same-site"}
    given = {"name": "Eve", "token": "admin-token"}
    assert (await app.request("POST", "/console/login", json=given, headers=far)).code == "forged"
    for cookie in ("", "x", "x.y", "é.é"):
        answer = await app.request("GET", "/admin/presence", headers={"Cookie": f"{COOKIE}={cookie}"})
        assert (answer.status, answer.code) == (401, "unauthorized")


async def test_a_link_logs_in_once(app: App) -> None:
    assert app.login_code is not None
    code = await app.login_code()
    _, session = await logged_in(app, once=code)
    assert session["role"] == OPERATOR
    again = await app.request("POST", "/console/login", json={"name": "Eve", "once": code})
    assert (again.status, again.code) == (401, "unauthorized")


async def test_the_pages_have_a_strict_policy_and_nothing_else_is_served(app: App) -> None:
    page = await app.request("GET", "/console/")
    assert page.status == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (await app.request("GET", "/console/app.js", headers={"If-None-Match": "x"})).status == 200
    held = await app.request("GET", "/console/app.js")
    assert (await app.request("GET", "/console/app.js", headers={"If-None-Match": held.headers["ETag"]})).status == 304
    assert (await app.request("GET", "/console/", headers={"X-Forwarded-Proto": "https"})).status == 200
    for path in ("/console/../settings.py", "/console/%2e%2e/console.py", "/console/texts", "/console/texts/fr.json"):
        assert (await app.request("GET", path)).status == 404


async def test_behind_tls_the_cookie_is_for_tls_alone(app: App) -> None:
    headers = {"X-Forwarded-Proto": "https"}
    given = {"name": "Zoë", "token": "admin-token"}
    answer = await app.request("POST", "/console/login", json=given, headers=headers)
    assert "Secure" in answer.headers["Set-Cookie"]


async def test_too_many_wrong_tokens_have_to_wait(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        codes = [
            (await app.request("POST", "/console/login", json={"name": "Eve", "token": str(number)})).code
            for number in range(21)
        ]
    assert codes == ["unauthorized"] * 20 + ["too_many_logins"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"console": False}, "IM_CONSOLE"),
        ({"http_host": "0.0.0.0"}, "IM_PUBLIC_PORT"),
        ({"http_host": "0.0.0.0", "public_port": 0}, None),
    ],
)
async def test_it_is_served_where_phones_do_not_come(
    own_redis: RedisServer, tmp_path: Path, settings: dict[str, Any], reason: str | None
) -> None:
    async with running_app(own_redis.url, tmp_path, **settings) as app:
        page = await app.request("GET", "/console/")
        if reason is None:
            assert page.status == 200
            public = f"http://127.0.0.1:{app.public_port}"
            assert (await app.request("GET", "/console/", url=public)).status == 404
            return
        assert page.status == 404
        assert reason in page.json["error"]["message"]
        assert (await app.request("POST", "/console/login", json={})).status == 404
        assert app.login_code is None


async def test_the_manual_is_served_with_the_pages(app: App) -> None:
    page = await app.request("GET", "/console/docs/alarms.md")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/markdown; charset=utf-8")
    assert b"### EmqxImRedisAway" in page.raw


async def test_the_overview_counts_what_happened(app: App) -> None:
    uid = new_uid()
    for number in range(3):
        await app.publish(f"single/{uid}", {"id": f"m{number}"})
    await app.pull(uid)
    await app.connect(uid)
    overview = (await app.admin("GET", "/overview")).json
    assert overview["redis"] == "ok"
    assert overview["online_users"] >= 1
    assert len(overview["minutes"]) == 15
    assert [each["state"] for each in overview["findings"] if each["subject"] == "EMQX"]
