"""The served OpenAPI document: it has every route. Answers are held to it in every test."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hooks.server.application import Parts
from tests.integration.app import App, command_body, message_body, new_uid, running_app, until
from tests.integration.openapi import DOCUMENT, OPERATIONS, answered
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_it_is_served_to_operators(app: App) -> None:
    answer = await app.admin("GET", "/openapi.json")
    assert (answer.status, answer.json) == (200, DOCUMENT)
    assert (await app.request("GET", "/admin/openapi.json")).status == 401


async def test_it_has_every_route_and_no_other(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[web.Application] = []
    make = Parts.application

    def kept(parts: Parts) -> web.Application:
        made.append(make(parts))
        return made[-1]

    monkeypatch.setattr(Parts, "application", kept)
    async with running_app(own_redis.url, tmp_path):
        (application,) = made
    routes = {
        (route.resource.canonical, "post" if route.method == "*" else route.method.lower())
        for route in application.router.routes()
        if route.method != "HEAD" and route.resource is not None
        if not route.resource.canonical.startswith("/console")
    }
    assert routes == set(OPERATIONS)


async def test_every_operation_is_answered(app: App, uid: str) -> None:
    """And each answer is held to the document on its way here."""
    answered.clear()

    async def done(method: str, path: str, **arguments: Any) -> Any:
        answer = await app.admin(method, path, **arguments)
        assert answer.status in (200, 204), answer.raw
        return answer.json if answer.raw else None

    tag = f"openapi-{uid}"
    await done("PUT", f"/tags/{tag}", json={"title": "Räder", "followable": True})
    await done("POST", f"/tags/{tag}/users", json={"add": [uid], "remove": [], "source": "manual"})
    await done("PUT", f"/tags/{tag}/users?source=profile", data=f"{uid}\n")
    await done("GET", f"/tags?after={tag[:-1]}")
    await done("GET", f"/tags/{tag}")
    await done("GET", f"/tags/{tag}/users")
    await done("POST", f"/tags/{tag}/preview", data=f"{uid}\n")
    gid = (await done("POST", "/groups", json={"owner": uid, "name": "Räder"}))["gid"]
    await done("POST", f"/groups/{gid}/members", json={"add": [new_uid()]})
    other = new_uid()
    await done("POST", f"/groups/{gid}/members", json={"add": [other]})
    await done("POST", f"/groups/{gid}/update", json={"notice": "Sunday"})
    await done("POST", f"/groups/{gid}/admin", json={"members": [other], "on": True})
    await done("POST", f"/groups/{gid}/mute", json={"members": [other], "seconds": 60})
    await done("POST", f"/groups/{gid}/transfer", json={"to": other})
    await done("POST", f"/groups/{gid}/mode", json={"mode": "read"})
    await done("GET", f"/groups/{gid}")
    await done("GET", "/groups")
    await app.connect(uid)
    await done("GET", "/presence")
    await done("GET", f"/presence?uid={uid},{new_uid()}")
    await done("GET", f"/users/{uid}")
    await done("DELETE", f"/users/{uid}/devices/{uid}-phone")
    banned = new_uid()
    await done("PUT", f"/users/{banned}/ban", json={"seconds": 60, "reason": "rude"})
    await done("GET", f"/users/{banned}")
    await done("DELETE", f"/users/{banned}/ban")
    for message in ({"topic": "business/global", "type": "news"}, {"topic": f"single/{uid}", "qos": 0}):
        mid = (await done("POST", "/publish", json=message))["mid"]
        if mid:
            await done("POST", "/recall", json={"topic": message["topic"], "mid": mid})
    for payload in ({"id": "a", "from": uid}, b"\xff"):
        assert (await app.publish(f"single/{new_uid()}", payload, uid)).status == 204
    assert (await app.pull(uid)).status == 200
    await done("DELETE", f"/groups/{gid}")
    await done("DELETE", f"/tags/{tag}")

    async def replayable() -> dict[str, Any]:
        assert (await app.command(f"group/{new_uid()}/join", {"id": "j"}, uid)).status == 400
        return (await app.letters(uid))[-1]

    letter = await replayable()
    assert (await app.admin("POST", f"/deadletters/{letter['n']}/replay")).code == "unknown_group"
    await done("DELETE", f"/deadletters/{letter['n']}")
    await done("POST", f"/deadletters/replay?sender={uid}")
    await done("DELETE", f"/deadletters?sender={uid}")
    await done("GET", "/audit")
    await done("GET", "/overview")
    await done("GET", "/sent")
    await done("GET", "/openapi.json")
    for path in ("/healthz", "/readyz", "/readyz/pulls", "/metrics"):
        assert (await app.request("GET", path)).status == 200
    asked = {name: recorded("authz")[0][name] for name in ("username", "clientid", "topic", "action", "qos")}
    assert (await app.hook("authz", asked)).status == 200

    group = new_uid()
    assert (await app.hook("group", command_body(f"group/{group}/join", {"id": "early"}, uid))).status == 400
    await app.command(f"group/{group}/create", {"id": "c", "open": True}, new_uid())

    async def replayed() -> bool:
        letters = await app.letters(uid)
        return (await app.admin("POST", f"/deadletters/{letters[-1]['n']}/replay")).status == 204

    await until(replayed)
    assert (await app.hook("message", message_body(f"single/{uid}", b"x", uid))).status == 204
    succeeded = {(path, method) for path, method, status in answered if status in (200, 204)}
    assert [each for each in OPERATIONS if each not in succeeded] == []
