"""Tests what is noted of operators' calls, and who may only look."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.integration.app import App, new_uid, running_app
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def audited(app: App, **query: int) -> list[dict[str, Any]]:
    answer = await app.admin("GET", "/audit", params={name: str(value) for name, value in query.items()})
    assert answer.status == 200, answer.raw
    found: list[dict[str, Any]] = answer.json["audit"]
    return found


async def test_changes_are_noted_with_what_came_of_them(app: App) -> None:
    uid, tag = new_uid(), f"audit-{new_uid()}"
    await app.admin("PUT", f"/tags/{tag}", json={"title": "<b>ü</b>"})
    await app.admin("GET", f"/tags/{tag}")
    await app.admin("PUT", f"/users/{uid}/ban", json={"seconds": 0})
    await app.admin("DELETE", f"/users/{uid}/ban")
    calls = [(each["call"], each["status"]) for each in (await audited(app, limit=3))[::-1]]
    assert calls == [
        (f"PUT /admin/tags/{tag}", 204),
        (f"PUT /admin/users/{uid}/ban", 400),
        (f"DELETE /admin/users/{uid}/ban", 404),
    ]
    newest, second = await audited(app, limit=2)
    assert await audited(app, after=newest["id"], limit=1) == [second]
    assert (newest["name"], newest["address"]) == ("", "127.0.0.1")
    tagged = next(each for each in await audited(app) if each["call"] == f"PUT /admin/tags/{tag}")
    assert tagged["detail"] == {"given": {"title": "<b>ü</b>"}}


async def test_what_back_ends_do_all_day_is_not_noted(app: App) -> None:
    uid, tag = new_uid(), f"audit-{new_uid()}"
    await app.admin("PUT", f"/tags/{tag}", json={})
    before = await audited(app, limit=1)
    await app.admin("POST", f"/tags/{tag}/users", json={"add": [uid]})
    await app.admin("PUT", f"/tags/{tag}/users?source=profile", data=f"{uid}\n")
    await app.admin("POST", "/publish", json={"topic": f"single/{uid}", "type": "text"})
    gid = (await app.admin("POST", "/groups", json={"owner": uid})).json["gid"]
    await app.admin("POST", f"/groups/{gid}/members", json={"add": [new_uid()]})
    await app.admin("POST", "/nothing/here", json={})
    assert await audited(app, limit=1) == before


async def test_what_operators_sent_is_listed(app: App) -> None:
    given = {"topic": "business/global", "type": "text", "body": {"text": "<i>hi</i>"}}
    mid = (await app.admin("POST", "/publish", json=given)).json["mid"]
    await app.admin("PUT", f"/tags/audit-{new_uid()}", json={})
    [sent] = (await app.admin("GET", "/sent?limit=1")).json["sent"]
    assert {name: sent[name] for name in (*given, "mid", "status")} == {**given, "mid": mid, "status": 200}
    assert sent["recalled"] is False
    assert (await app.admin("POST", "/recall", json={"topic": "business/global", "mid": mid})).status == 200
    [recall, _, publish] = await audited(app, limit=3)
    assert (recall["call"], publish["call"]) == ("POST /admin/recall", "POST /admin/publish")
    assert "hi" not in str(publish["detail"])
    [gone] = (await app.admin("GET", "/sent?limit=1")).json["sent"]
    assert (gone["mid"], gone["recalled"], gone["body"]) == (mid, True, None)
    older = (await app.admin("GET", f"/sent?after={sent['id']}&limit=1000")).json["sent"]
    assert mid not in [each["mid"] for each in older]


async def test_groups_are_listed_by_pages(app: App) -> None:
    owner = new_uid()
    gids = sorted([await app.group(owner, name=f"g{number}") for number in range(3)], key=int)
    await app.admin("DELETE", f"/groups/{gids[1]}")
    listed = (await app.admin("GET", f"/groups?after={int(gids[0]) - 1}&limit=2")).json["groups"]
    assert [each["gid"] for each in listed] == [gids[0], gids[2]]
    assert (listed[0]["owner"], listed[0]["member_count"]) == (owner, 1)


async def test_a_viewer_looks_and_changes_nothing(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, viewer_token="viewer-token") as app:
        assert (await app.request("GET", "/admin/presence", "viewer-token")).status == 200
        tag = await app.request("PUT", "/admin/tags/t", "viewer-token", json={})
        assert (tag.status, tag.code) == (403, "read_only")
        assert (await app.admin("GET", "/tags")).json == {"tags": []}
        assert (await app.request("GET", "/admin/presence", "viewer")).status == 401


async def test_calls_at_once_are_all_noted(app: App) -> None:
    tags = [f"audit-{new_uid()}" for _ in range(8)]
    await asyncio.gather(*(app.admin("PUT", f"/tags/{tag}", json={}) for tag in tags))
    noted = {each["call"] for each in await audited(app, limit=20)}
    assert {f"PUT /admin/tags/{tag}" for tag in tags} <= noted


async def test_of_a_long_body_what_is_short_is_kept(app: App) -> None:
    long = {"topic": "business/global", "type": "text", "id": "x", "body": "b" * 9000}
    mid = (await app.admin("POST", "/publish", json=long)).json["mid"]
    [sent] = (await app.admin("GET", "/sent?limit=1")).json["sent"]
    assert (sent["mid"], sent["topic"], len(sent["body"])) == (mid, "business/global", 9000)
    gid = await app.group(new_uid())
    await app.admin("POST", f"/groups/{gid}/mute", json={"members": list(range(1, 600)), "seconds": 5})
    [noted] = await audited(app, limit=1)
    assert noted["detail"] == {"given": {"seconds": 5, "cut": True}}


async def test_the_text_of_what_is_live_only_is_kept_with_the_call(app: App) -> None:
    given = {"topic": "business/global", "qos": 0, "type": "text", "body": {"text": "<i>now</i>"}}
    assert (await app.admin("POST", "/publish", json=given)).json == {"mid": None}
    [sent] = (await app.admin("GET", "/sent?limit=1")).json["sent"]
    assert {name: sent[name] for name in (*given, "mid", "recalled")} == {**given, "mid": None, "recalled": False}
    assert (await app.admin("POST", "/publish", json={**given, "body": "b" * 9000})).status == 200
    [long] = (await app.admin("GET", "/sent?limit=1")).json["sent"]
    assert (long["type"], long["body"]) == ("text", None)


async def test_groups_are_found_by_their_names(app: App) -> None:
    owner, word = new_uid(), f"w{new_uid()}"
    gids = sorted([await app.group(owner, name=f"Of {word} {number}") for number in range(3)], key=int)
    listed = (await app.admin("GET", f"/groups?name={word.upper()}&after={gids[0]}")).json["groups"]
    assert [each["gid"] for each in listed] == gids[1:]
    assert (await app.admin("GET", f"/groups?name={word}-")).json == {"groups": []}
    assert (await app.admin("GET", f"/groups?name={'n' * 129}")).code == "bad_argument"
