"""The second port, for clients: it serves pulls and nothing else, to browsers of the given origins too."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.app import Answer, App, running_app, token
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

ORIGIN = "https://chat.example"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def public(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    directory = tmp_path_factory.mktemp("public")
    origins = f"{ORIGIN},https://other.example"
    async with running_app(common_redis.url, directory, public_port=0, cors_origins=origins) as running:
        running.url = f"http://127.0.0.1:{running.public_port}"
        yield running


async def pull(app: App, uid: str, **headers: str) -> Answer:
    return await app.request("GET", "/pull?last_id=0", token(uid), headers=headers)


async def test_it_serves_pulls(public: App, uid: str) -> None:
    assert (await pull(public, uid)).status == 200
    assert (await public.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/hooks/message"),
        ("POST", "/hooks/authz"),
        ("GET", "/admin/presence"),
        ("GET", "/admin/deadletters"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
        ("GET", "/"),
    ],
)
@pytest.mark.parametrize("bearer", [None, "hook-token-1", "admin-token"])
async def test_it_serves_nothing_else(public: App, method: str, path: str, bearer: str | None) -> None:
    answer = await public.request(method, path, bearer)
    assert answer.status in (401, 404)
    assert answer.code in ("unauthorized", "not_found")


async def test_tokens_may_have_16_kib_on_every_port(public: App, uid: str) -> None:
    for port in (public.public_port, public.port):
        for padding, status in ((12_100, 200), (13_000, 401), (17_000, 401), (19_000, 431), (100_000, 431)):
            bearer = token(uid, padding="x" * padding)
            answer = await public.request(
                "GET", "/pull?last_id=0", bearer, headers={"Origin": ORIGIN}, url=f"http://127.0.0.1:{port}"
            )
            assert answer.status == status
            assert allowed(answer) == ORIGIN, "errors are for the page to read, too"
            assert status == 200 or answer.code in ("unauthorized", "head_too_large")


def allowed(answer: Answer) -> Any:
    return answer.headers.get("Access-Control-Allow-Origin")


async def test_browsers_of_given_origins_may_pull(public: App, uid: str) -> None:
    assert allowed(await pull(public, uid, Origin=ORIGIN)) == ORIGIN
    refused = await public.request("GET", "/pull", headers={"Origin": ORIGIN})
    assert (refused.status, allowed(refused)) == (401, ORIGIN), "errors are for the page to read, too"


async def test_browsers_of_other_origins_may_not(public: App, uid: str) -> None:
    for origin in ("https://evil.example", "null", f"{ORIGIN}.evil.example", "http://chat.example"):
        assert allowed(await pull(public, uid, Origin=origin)) is None
    assert allowed(await pull(public, uid)) is None


@pytest.mark.parametrize(
    "names",
    [
        "authorization",
        "authorization,baggage,sentry-trace,traceparent",
        "Traceparent, Authorization",
        "x-datadog-trace-id",
        "",
    ],
)
async def test_a_browser_asks_first(public: App, names: str) -> None:
    asking = {"Access-Control-Request-Method": "GET", **({"Access-Control-Request-Headers": names} if names else {})}
    answer = await public.request("OPTIONS", "/pull", headers={"Origin": ORIGIN, **asking})
    assert (answer.status, allowed(answer)) == (204, ORIGIN)
    assert "GET" in answer.headers["Access-Control-Allow-Methods"]
    may_be_sent = {name.strip() for name in answer.headers["Access-Control-Allow-Headers"].lower().split(",")}
    assert {"authorization", *(name.strip().lower() for name in names.split(",") if name)} <= may_be_sent
    answer = await public.request("OPTIONS", "/pull", headers={"Origin": "https://evil.example", **asking})
    assert allowed(answer) is None


async def test_pages_may_read_when_to_come_back(public: App, uid: str) -> None:
    assert (await pull(public, uid, Origin=ORIGIN)).headers["Access-Control-Expose-Headers"] == "Retry-After"


async def test_no_answer_to_a_pull_is_stored(public: App, uid: str) -> None:
    """By a proxy or a browser: the next user of it would see it."""
    for port in (public.public_port, public.port):
        url = f"http://127.0.0.1:{port}"
        for bearer, query in ((token(uid), "last_id=0"), (token(uid), ""), (None, "last_id=0"), ("x" * 30_000, "")):
            answer = await public.request("GET", f"/pull?{query}", bearer, url=url)
            assert answer.headers["Cache-Control"] == "no-store"
        answer = await public.request("POST", "/pull", token(uid), url=url)
        assert (answer.status, answer.headers["Cache-Control"]) == (405, "no-store")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bearer   "])
async def test_the_scheme_is_read_as_http_has_it(public: App, uid: str, scheme: str) -> None:
    for bearer, path in ((token(uid), "/pull?last_id=0"), ("admin-token", "/admin/presence")):
        answer = await public.request(
            "GET", path, headers={"Authorization": f"{scheme} {bearer}"}, url=f"http://127.0.0.1:{public.port}"
        )
        assert answer.status == 200


async def test_the_service_port_goes_on_with_everything(public: App, uid: str) -> None:
    service = f"http://127.0.0.1:{public.port}"
    assert (await public.request("GET", "/pull?last_id=0", token(uid), url=service)).status == 200
    assert (await public.request("GET", "/metrics", url=service)).status == 200


async def test_every_origin_can_be_let_in(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path, public_port=0, cors_origins="*") as app:
        app.url = f"http://127.0.0.1:{app.public_port}"
        assert allowed(await pull(app, uid, Origin="https://any.example")) == "https://any.example"


async def test_with_one_port_browsers_pull_there(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path, cors_origins=ORIGIN) as app:
        assert app.public_port is None
        assert allowed(await pull(app, uid, Origin=ORIGIN)) == ORIGIN
        assert allowed(await app.request("GET", "/admin/presence", headers={"Origin": ORIGIN})) is None
