"""Tests what `emqx-im doctor` finds of the service, and the whole command."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hooks.doctor import service
from tests.integration.app import running_app
from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET, Run
from tests.integration.emqx.fake import FakeEmqx
from tests.integration.emqx.findings import bad, only
from tests.servers import RedisServer


class Service:
    """A webhook that takes one token; ready: what `/readyz` says. trusted_send: it runs with IM_TRUSTED_SEND."""

    def __init__(self) -> None:
        self.tokens = [HOOK_TOKEN]
        self.trusted_send = False
        self.ready: dict[str, Any] = {"ready": True, "archive": {"state": "ok", "outbox_length": 0}}

    async def authz(self, request: web.Request) -> web.Response:
        good = request.headers["Authorization"].removeprefix("Bearer ") in self.tokens or not self.tokens
        if not good:
            return web.Response(status=401)
        sending = (await request.json())["topic"].startswith("send/")
        return web.json_response({"result": "deny" if sending and not self.trusted_send else "allow"})

    async def readyz(self, request: web.Request) -> web.Response:
        return web.json_response(self.ready, status=200 if self.ready["ready"] else 503)

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})


@pytest.fixture
async def webhook() -> AsyncIterator[tuple[Service, str]]:
    model = Service()
    app = web.Application()
    app.add_routes(
        [
            web.post("/hooks/authz", model.authz),
            web.get("/readyz", model.readyz),
            web.get("/healthz", model.healthz),
        ]
    )
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield model, str(server.make_url("")).rstrip("/")
    await server.close()


async def test_a_webhook_that_takes_its_tokens_only(webhook: tuple[Service, str]) -> None:
    model, url = webhook
    assert bad(await service.webhook(url, (HOOK_TOKEN,))) == []
    assert "refuses token 2" in only(await service.webhook(url, (HOOK_TOKEN, "newer"))).what
    model.tokens = []
    assert "answers 200 to a wrong token" in only(await service.webhook(url, (HOOK_TOKEN,))).what


async def test_where_the_console_is(webhook: tuple[Service, str], tmp_path: Path, own_redis: RedisServer) -> None:
    async def told(**settings: Any) -> list[tuple[str, str]]:
        async with running_app(own_redis.url, tmp_path, **settings) as app:
            found = await service.webhook(app.url, ("hook-token-1",))
        return [(each.what, each.mend) for each in found if "console" in each.what]

    assert await told() == [("serves the console", "")]
    assert await told(console=False) == [("has no console: IM_CONSOLE is false", "")]
    ((what, mend),) = await told(http_host="0.0.0.0")
    assert what == "does not serve the console: phones could reach it"
    assert mend.startswith("set IM_PUBLIC_PORT")
    assert [each.what for each in await service.webhook(webhook[1], (HOOK_TOKEN,)) if "console" in each.what] == []


async def test_a_service_that_runs_the_other_way_of_sending(webhook: tuple[Service, str]) -> None:
    model, url = webhook
    told = only(await service.webhook(url, (HOOK_TOKEN,), trusted_send=True)).what
    assert told == "runs with IM_TRUSTED_SEND=false, but here it is true"
    model.trusted_send = True
    assert bad(await service.webhook(url, (HOOK_TOKEN,), trusted_send=True)) == []
    assert "IM_TRUSTED_SEND=true" in only(await service.webhook(url, (HOOK_TOKEN,))).what


async def test_a_service_that_is_not_ready(webhook: tuple[Service, str]) -> None:
    model, url = webhook
    model.ready = {"ready": False, "error": {"code": "redis_away", "message": "Redis does not answer"}}
    assert "Redis does not answer" in only(await service.webhook(url, (HOOK_TOKEN,))).what
    model.ready = {"ready": True, "archive": {"state": "away"}}
    assert "does not archive: away" in only(await service.webhook(url, (HOOK_TOKEN,))).what


async def test_a_service_that_is_away() -> None:
    assert "does not answer" in only(await service.webhook("http://127.0.0.1:1", (HOOK_TOKEN,))).what


async def test_the_command_tells_all_and_fails(applied: FakeEmqx, run: Run, webhook: tuple[Service, str]) -> None:
    _, url = webhook
    given = {
        "IM_REDIS_URL": "redis://127.0.0.1:1",
        "IM_ARCHIVE_URL": "sqlite:///archive.sqlite3",
        "IM_HOOK_TOKEN": HOOK_TOKEN,
    }
    ran = await run("doctor", "--url", url, **given)
    assert ran.status == 1, ran
    assert ran.err == ""
    told = " ".join(ran.out.split())
    assert "✓ EMQX has all" in told
    assert "✗ Redis does not answer" in told
    assert "→ run `emqx-im migrate`" in ran.out
    assert "- probe no message was sent" in told
    assert JWT_SECRET not in ran.out
    assert HOOK_TOKEN not in ran.out


async def test_a_missing_setting_is_one_line(run: Run) -> None:
    ran = await run("doctor", IM_HOOK_URL="", IM_REDIS_URL="redis://", IM_ARCHIVE_URL="sqlite:///x")
    assert (ran.status, ran.err.count("\n")) == (1, 1)
    assert "IM_HOOK_URL" in ran.err
