"""Tests `/admin`: groups, messages in the service's name, and one user as an operator sees them."""

import asyncio
import time
from typing import Any

import pytest

from tests.integration.app import App, message_body, new_uid, running_app, until
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def heard(app: App, topic: str, client_id: str) -> dict[str, Any]:
    """Returns what was published live to the topic with this id."""

    async def there() -> list[dict[str, Any]]:
        return [each for each in app.emqx.heard(topic) if each["id"] == client_id]

    message: dict[str, Any] = (await until(there))[0]
    return message


# Groups


async def test_a_group_is_made_shown_filled_and_dismissed(app: App) -> None:
    owner, first, second = new_uid(), new_uid(), new_uid()
    given = {"owner": int(owner), "name": "Räder", "mode": "read", "open": True, "members": [first]}
    made = await app.admin("POST", "/groups", json=given)
    assert made.status == 200
    gid = made.json["gid"]
    group = (await app.admin("GET", f"/groups/{gid}")).json
    expected = {"gid": gid, "owner": owner, "name": "Räder", "mode": "read", "open": True, "member_count": 2}
    expected["member_limit"] = 100_000
    assert {name: group[name] for name in expected} == expected
    assert set(group["members"]) == {owner, first}

    changed = await app.admin("POST", f"/groups/{gid}/members", json={"add": [second, first], "remove": [owner]})
    assert (changed.status, changed.json) == (200, {"added": 1, "removed": 1})
    again = await app.admin("POST", f"/groups/{gid}/members", json={"add": [second], "remove": [owner]})
    assert (again.status, again.json) == (200, {"added": 0, "removed": 0})
    group = (await app.admin("GET", f"/groups/{gid}")).json
    assert (group["owner"], set(group["members"])) == (first, {first, second})

    assert (await app.admin("DELETE", f"/groups/{gid}")).status == 204
    for method, path in (("GET", ""), ("DELETE", "")):
        gone = await app.admin(method, f"/groups/{gid}{path}")
        assert (gone.status, gone.code) == (404, "not_found")
    gone = await app.admin("POST", f"/groups/{gid}/members", json={"add": [second]})
    assert (gone.status, gone.code) == (404, "not_found")


async def test_a_group_is_moderated(app: App) -> None:
    owner, admin, member = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, admin, member)

    async def done(command: str, **fields: Any) -> dict[str, Any]:
        answer = await app.admin("POST", f"/groups/{gid}/{command}", json=fields)
        assert answer.status == 200, answer.raw
        group: dict[str, Any] = answer.json
        return group

    assert (await done("admin", members=[int(admin)], on=True))["admins"] == [admin]
    updated = await done("update", name="Räder", notice="Sunday", open=True)
    assert (updated["name"], updated["notice"], updated["open"]) == ("Räder", "Sunday", True)
    assert updated["muted_until"] is None
    transferred = await done("transfer", to=admin)
    assert (transferred["owner"], transferred["admins"]) == (admin, [owner])
    assert (await done("mode", mode="read"))["mode"] == "read"
    before = int(time.time() * 1000)
    assert (await done("mute", members="all", seconds=3600))["muted_until"] >= before + 3_600_000
    await done("mute", members=[member, owner], seconds=60)
    shown = (await app.admin("GET", f"/groups/{gid}")).json
    assert {each["uid"] for each in shown["mutes"]} == {member, owner}
    assert min(each["until"] for each in shown["mutes"]) >= before + 60_000
    assert (await done("mute", members="all", seconds=0))["muted_until"] is None
    roles = {each: (await app.admin("GET", f"/users/{each}")).json["groups"][0]["role"] for each in (owner, admin)}
    assert roles == {owner: "admin", admin: "owner"}


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("update", {}, "bad_argument"),
        ("update", {"name": "n" * 129}, "bad_argument"),
        ("update", {"notice": "n" * 2049}, "bad_argument"),
        ("transfer", {"to": "x"}, "bad_argument"),
        ("transfer", {"to": 7}, "not_a_member"),
        ("admin", {"members": [7], "on": 1}, "bad_argument"),
        ("mute", {"members": "all", "seconds": 31_536_001}, "bad_argument"),
        ("mute", {"members": "all", "seconds": True}, "bad_argument"),
        ("mute", {"members": [7], "seconds": 1}, "not_a_member"),
        ("mode", {"mode": "both"}, "bad_argument"),
    ],
)
async def test_bad_moderation_changes_nothing(app: App, name: str, fields: dict[str, Any], code: str) -> None:
    gid = await app.group(new_uid())
    before = (await app.admin("GET", f"/groups/{gid}")).json
    answer = await app.admin("POST", f"/groups/{gid}/{name}", json=fields)
    assert (answer.status, answer.code) == (400, code)
    assert (await app.admin("GET", f"/groups/{gid}")).json == before
    valid = {"name": "x", "to": 7, "members": [7], "on": True, "seconds": 1, "mode": "read"}
    unknown = await app.admin("POST", f"/groups/{new_uid()}/{name}", json=valid)
    assert (unknown.status, unknown.code) == (404, "not_found")


async def test_members_are_listed_by_pages(app: App) -> None:
    owner, *others = (new_uid() for _ in range(5))
    gid = await app.group(owner, *others)
    everybody = sorted([owner, *others], key=int)
    page = (await app.admin("GET", f"/groups/{gid}?limit=2")).json
    assert (page["members"], page["member_count"]) == (everybody[:2], 5)
    page = (await app.admin("GET", f"/groups/{gid}?after={everybody[1]}&limit=1000")).json
    assert page["members"] == everybody[2:]


async def test_the_gid_may_be_given_once(app: App) -> None:
    gid, owner = new_uid(), new_uid()
    assert (await app.admin("POST", "/groups", json={"gid": gid, "owner": owner})).json["gid"] == gid
    taken = await app.admin("POST", "/groups", json={"gid": int(gid), "owner": owner})
    assert (taken.status, taken.code) == (400, "gid_taken")


@pytest.mark.parametrize(
    "given",
    [
        b"{",
        b"[]",
        {},
        {"owner": "abc"},
        {"owner": "0"},
        {"owner": "7", "gid": "01"},
        {"owner": "7", "mode": "x"},
        {"owner": "7", "open": "yes"},
        {"owner": "7", "members": ["7", "x"]},
        {"owner": "7", "name": []},
    ],
)
async def test_a_bad_group_is_not_made(app: App, given: Any) -> None:
    arguments = {"data": given} if isinstance(given, bytes) else {"json": given}
    answer = await app.admin("POST", "/groups", **arguments)
    assert (answer.status, answer.code) == (400, "bad_argument")


@pytest.mark.parametrize("given", [{"add": "7"}, {"add": [0]}, {"add": ["7"], "remove": [7]}, []])
async def test_bad_members_change_nothing(app: App, given: Any) -> None:
    owner = new_uid()
    gid = await app.group(owner)
    answer = await app.admin("POST", f"/groups/{gid}/members", json=given)
    assert (answer.status, answer.code) == (400, "bad_argument")
    assert (await app.admin("GET", f"/groups/{gid}")).json["members"] == [owner]


async def test_limits_hold_for_operators_too(own_redis: RedisServer, tmp_path: Any) -> None:
    limits = {"group_write_limit": 2, "group_read_limit": 3, "group_user_limit": 1}
    async with running_app(own_redis.url, tmp_path, **limits) as app:
        a, b, c, d = (new_uid() for _ in range(4))
        gid = await app.group(a, b)
        full = await app.admin("POST", f"/groups/{gid}/members", json={"add": [c], "remove": [b]})
        assert (full.status, full.code) == (400, "group_limit")
        assert set((await app.admin("GET", f"/groups/{gid}")).json["members"]) == {a, b}
        assert (await app.admin("POST", "/groups", json={"owner": a, "mode": "read", "members": [b]})).status == 200
        many = await app.admin("POST", "/groups", json={"owner": c, "mode": "read", "members": [d, a]})
        assert (many.status, many.code) == (400, "user_limit")


@pytest.mark.parametrize("gid", ["abc", "0", "01", "9007199254740992"])
async def test_what_is_no_gid_is_not_found(app: App, gid: str) -> None:
    assert [(await app.admin(method, f"/groups/{gid}")).status for method in ("GET", "DELETE")] == [404, 404]


@pytest.mark.parametrize("path", ["/groups/7", "/groups", "/publish", "/users/7"])
async def test_operators_only(app: App, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await app.request(method, f"/admin{path}", "wrong")
        assert (answer.status, answer.code) == (401, "unauthorized")


# Messages


@pytest.mark.parametrize("kind", ["single", "group", "business"])
async def test_a_message_is_stored_and_live(app: App, kind: str) -> None:
    owner, uid = new_uid(), new_uid()
    topics = {"single": f"single/{uid}", "group": f"group/{await app.group(owner, uid)}", "business": "business/global"}
    topic = topics[kind]
    message = {"topic": topic, "qos": 1, "type": "news", "body": {"text": "Räder"}}
    answer = await app.admin("POST", "/publish", json=message)
    assert answer.status == 200
    pulled = (await app.pull(uid, limit=1000)).json["messages"]
    (stored,) = [each for each in pulled if each["mid"] == answer.json["mid"]]
    assert (stored["topic"], stored["from"]) == (topic, "0")
    assert stored["id"].startswith("im.")
    assert stored["payload"] == {"id": stored["id"], "from": "0", "type": "news", "body": {"text": "Räder"}}
    assert await heard(app, topic, stored["id"]) == stored["payload"]


async def test_what_comes_back_through_the_rule_is_stored_once(app: App, uid: str) -> None:
    answer = await app.admin("POST", "/publish", json={"topic": "business/global", "qos": 1, "id": uid, "body": 1})
    live = await heard(app, "business/global", uid)
    back = message_body("business/global", live, "undefined", rest=True)
    assert (await app.hook("message", back)).status == 204
    pulled = (await app.pull(uid, limit=1000)).json["messages"]
    assert [each["mid"] for each in pulled if each["id"] == uid] == [answer.json["mid"]]


async def test_a_repeat_has_the_first_ones_id(app: App, uid: str) -> None:
    message = {"topic": f"single/{uid}", "qos": 1, "id": "x", "type": "news", "body": 1}
    mids = [(await app.admin("POST", "/publish", json=message)).json["mid"] for _ in range(2)]
    assert mids[0] == mids[1]
    assert len(await app.messages(uid)) == 1


async def test_qos_0_is_live_only(app: App, uid: str) -> None:
    message = {"topic": f"single/{uid}", "qos": 0, "id": "x", "type": "news", "body": 1}
    answer = await app.admin("POST", "/publish", json=message)
    assert (answer.status, answer.json) == (200, {"mid": None})
    await heard(app, f"single/{uid}", "x")
    assert [each["qos"] for each in app.emqx.published if each["topic"] == f"single/{uid}"] == [0]
    assert await app.messages(uid) == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"topic": "single/abc"}, "unknown_topic"),
        ({"topic": "group/1/create"}, "unknown_topic"),
        ({"topic": "business/tag_nowhere"}, "unknown_tag"),
        ({"topic": 7}, "unknown_topic"),
        ({"topic": "group/9007199254740990"}, "unknown_group"),
        ({"qos": 2}, "bad_argument"),
        ({"qos": True}, "bad_argument"),
        ({"id": 7}, "bad_id"),
        ({"id": ""}, "bad_id"),
        ({"type": "im.ack"}, "reserved_type"),
        ({"type": 7}, "bad_type"),
        ({"body": "b" * 16_384}, "payload_too_large"),
    ],
)
async def test_a_bad_message_is_refused(app: App, uid: str, changed: dict[str, Any], code: str) -> None:
    message = {"topic": f"single/{uid}", "qos": 1, "type": "news", "body": 1, **changed}
    answer = await app.admin("POST", "/publish", json=message)
    assert (answer.status, answer.code) == (400, code)
    assert await app.messages(uid) == []


async def test_a_body_nested_too_deep_is_refused(app: App, uid: str) -> None:
    deep = b"[" * 200 + b"]" * 200
    for depth in (200, 400):
        deep = b"[" * depth + b"]" * depth
        raw = b'{"topic":"single/%b","qos":1,"body":%b}' % (uid.encode(), deep)
        answer = await app.admin("POST", "/publish", data=raw)
        assert (answer.status, answer.code) == (400, "bad_argument")


async def test_without_a_rest_api_only_what_is_stored_can_be_sent(own_redis: RedisServer, tmp_path: Any) -> None:
    async with running_app(own_redis.url, tmp_path, emqx_api_url=None) as app:
        uid = new_uid()
        answer = await app.admin("POST", "/publish", json={"topic": f"single/{uid}", "qos": 0, "body": 1})
        assert (answer.status, answer.code) == (503, "broker_away")
        answer = await app.admin("POST", "/publish", json={"topic": f"single/{uid}", "qos": 1, "body": 1})
        assert [each["mid"] for each in await app.messages(uid)] == [answer.json["mid"]]


async def test_a_waiting_pull_hears_of_a_read_group(app: App, uid: str) -> None:
    owner = new_uid()
    gid = await app.group(owner, uid, mode="read")
    cursor = (await app.pull(uid, limit=1000)).json["last_id"]
    waiting = asyncio.create_task(app.pull(uid, cursor, wait=30))

    async def waits() -> bool:
        return await app.metric("emqx_im_waiting_pulls") >= 1

    await until(waits)
    assert (await app.admin("POST", "/publish", json={"topic": f"group/{gid}", "qos": 1, "body": 1})).status == 200
    answer = await asyncio.wait_for(waiting, 10)
    assert [each["topic"] for each in answer.json["messages"]] == [f"group/{gid}"]


# Users


async def test_a_user_nobody_knows(app: App, uid: str) -> None:
    answer = await app.admin("GET", f"/users/{uid}")
    assert (answer.status, answer.json) == (
        200,
        {
            **{"online": False, "devices": [], "groups": [], "tags": [], "last_seen": None},
            "timeline": {"messages": 0, "oldest": None, "newest": None},
            "ban": None,
        },
    )


async def test_a_user_as_he_is(app: App, uid: str) -> None:
    clientid = await app.connect(uid)
    gid = await app.group(uid, name="mine")
    for client_id in ("a", "b"):
        await app.publish(f"single/{uid}", {"id": client_id})
    user = (await app.admin("GET", f"/users/{uid}")).json
    assert user["online"] is True
    assert [device["clientid"] for device in user["devices"]] == [clientid]
    assert user["groups"] == [{"gid": gid, "name": "mine", "mode": "write", "role": "owner"}]
    assert abs(user["last_seen"] - user["devices"][0]["connected_at"]) < 60_000
    mids = [each["mid"] for each in await app.messages(uid)]
    assert user["timeline"] == {"messages": len(mids), "oldest": mids[0], "newest": mids[-1]}
    gone = {**recorded("client_disconnected")[0], "clientid": clientid, "username": uid, "reason": "normal"}
    await app.hook("client", {**gone, "connected_at": user["devices"][0]["connected_at"]})
    assert (await app.admin("GET", f"/users/{uid}")).json["online"] is False


@pytest.mark.parametrize("uid", ["abc", "0", "01"])
async def test_what_is_no_uid_is_not_found(app: App, uid: str) -> None:
    answer = await app.admin("GET", f"/users/{uid}")
    assert (answer.status, answer.code) == (404, "not_found")
