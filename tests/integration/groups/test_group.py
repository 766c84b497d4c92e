"""`/hooks/group`: what commands do, whom they tell, and what is refused."""

import json
from typing import Any

import pytest

from hooks.tokens.bearer import receiver_key
from tests.integration.app import SECRETS, Answer, App, command_body, new_uid, until
from tests.recorded import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def told(app: App, uid: str, kind: str) -> dict[str, Any]:
    """Returns the first control message of this kind to the user, once it is there."""

    async def there() -> list[dict[str, Any]]:
        return app.emqx.told(uid, kind)

    message: dict[str, Any] = (await until(there))[0]
    return message


async def shown(app: App, gid: str) -> Any:
    answer = await app.admin("GET", f"/groups/{gid}")
    assert answer.status == 200, answer.raw
    return answer.json


async def members(app: App, gid: str) -> set[str]:
    return set((await shown(app, gid))["members"])


async def texts(app: App, uid: str, gid: str) -> list[str]:
    """Returns the ids of users' messages to the group that the user pulls."""
    pulled = (await app.pull(uid, limit=1000)).json["messages"]
    return [each["id"] for each in pulled if each["topic"] == f"group/{gid}" and each["from"] != "0"]


# Done


async def test_a_recorded_command_makes_a_group(app: App) -> None:
    gid = new_uid()
    body = {**recorded("publish_group_command")[0], "hook": "group", "rest": False, "topic": f"group/{gid}/create"}
    assert (await app.hook("group", body)).status == 204
    group = await shown(app, gid)
    assert (group["owner"], group["mode"], group["open"]) == ("1001", "write", False)
    assert group["members"] == ["1001", "1002"]


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_members_get_messages_and_nobody_else(app: App, mode: str) -> None:
    owner, member, stranger = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, member, mode=mode)
    for sender, client_id in ((owner, "one"), (member, "two")):
        assert (await app.publish(f"group/{gid}", {"id": client_id}, sender)).status == 204
    assert await texts(app, owner, gid) == await texts(app, member, gid) == ["one", "two"]
    refused = await app.publish(f"group/{gid}", {"id": "three"}, stranger)
    assert (refused.status, refused.code) == (400, "not_a_member")
    assert (await told(app, stranger, "im.error"))["body"]["ref"] == "three"
    assert await texts(app, stranger, gid) == []


async def test_invited_users_are_told_live_what_they_pull(app: App) -> None:
    owner, member = new_uid(), new_uid()
    gid = await app.group(owner, member, name="Räder", mode="read")
    live = await told(app, member, "im.group.invite")
    assert (live["from"], live["key"]) == ("0", receiver_key(SECRETS["secret"], member))
    assert live["id"].startswith("im.")
    expected = {"gid": gid, "name": "Räder", "mode": "read", "by": owner, "topic": f"group/{gid}"}
    assert {field: live["body"][field] for field in expected} == expected
    (stored,) = [each for each in await app.messages(member) if each["payload"]["type"] == "im.group.invite"]
    assert (stored["payload"], stored["id"], stored["from"]) == (live, live["id"], "0")
    created = await told(app, owner, "im.group.created")
    assert created["body"]["gid"] == gid
    assert created["key"] == receiver_key(SECRETS["secret"], owner)


async def test_who_is_kicked_or_leaves_is_told(app: App) -> None:
    owner, kicked, leaver = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, kicked, leaver)
    assert (await app.command(f"group/{gid}/kick", {"id": "k", "members": [kicked]}, owner)).status == 204
    assert (await app.command(f"group/{gid}/leave", {"id": "l"}, leaver)).status == 204
    assert (await told(app, kicked, "im.group.kicked"))["body"]["gid"] == gid
    assert (await told(app, leaver, "im.group.left"))["body"]["gid"] == gid
    assert await members(app, gid) == {owner}


async def test_the_group_hears_of_changes_and_its_end(app: App) -> None:
    owner, member = new_uid(), new_uid()
    gid = await app.group(owner, member)
    assert (await app.command(f"group/{gid}/mode", {"id": "m", "mode": "read"}, owner)).status == 204
    assert (await shown(app, gid))["mode"] == "read"
    assert (await app.command(f"group/{gid}/dismiss", {"id": "d"}, owner)).status == 204
    assert (await app.admin("GET", f"/groups/{gid}")).status == 404

    async def heard() -> list[dict[str, Any]]:
        return [each for each in app.emqx.heard(f"group/{gid}") if each["type"] == "im.group.dismissed"]

    (live,) = await until(heard)
    assert live["from"] == "0"
    assert "key" not in live
    pulled = (await app.pull(member, limit=1000)).json["messages"]
    notices = [each["payload"] for each in pulled if each["topic"] == f"group/{gid}"]
    assert [each["type"] for each in notices] == ["im.group.changed", "im.group.dismissed"]
    assert notices[-1] == live


async def test_moderating_a_group(app: App) -> None:
    owner, admin, member = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, admin, member)

    async def done(command: str, actor: str, **fields: Any) -> None:
        answer = await app.command(f"group/{gid}/{command}", {"id": command, "ack": True, **fields}, actor)
        assert answer.status == 204, answer.raw

    await done("admin", owner, members=[admin], on=True)
    await done("update", admin, name="Räder", notice="Sunday at nine", open=True)
    await done("mute", admin, members=[member], seconds=3600)
    refused = await app.publish(f"group/{gid}", {"id": "loud"}, member)
    assert (refused.status, refused.code) == (400, "muted")
    assert (await told(app, member, "im.error"))["body"]["code"] == "muted"
    assert (await app.publish(f"group/{gid}", {"id": "fine"}, admin)).status == 204
    await done("transfer", owner, to=int(member))
    assert (await app.publish(f"group/{gid}", {"id": "own"}, member)).status == 204
    assert await texts(app, owner, gid) == ["fine", "own"]
    group = await shown(app, gid)
    assert (group["owner"], group["admins"]) == (member, [admin, owner])
    assert (group["name"], group["notice"], group["open"]) == ("Räder", "Sunday at nine", True)
    pulled = (await app.pull(owner, limit=1000)).json["messages"]
    changes = [each["payload"] for each in pulled if each["payload"].get("type") == "im.group.changed"]
    assert [each["body"]["change"] for each in changes] == ["admin", "update", "mute", "transfer"]

    async def all_heard() -> bool:
        heard = [each for each in app.emqx.heard(f"group/{gid}") if each["type"] == "im.group.changed"]
        return sorted(each["id"] for each in heard) == sorted(each["id"] for each in changes)

    await until(all_heard)
    assert (await told(app, admin, "im.ack"))["body"]["id"] == "update"


async def test_an_open_group_is_joined_until_one_is_kicked(app: App) -> None:
    owner, guest = new_uid(), new_uid()
    gid = await app.group(owner, open=True)
    await app.publish(f"group/{gid}", {"id": "before"}, owner)
    assert (await app.command(f"group/{gid}/join", {"id": "j1"}, guest)).status == 204
    await app.publish(f"group/{gid}", {"id": "during"}, owner)
    await app.command(f"group/{gid}/kick", {"id": "k", "members": [guest]}, owner)
    await app.publish(f"group/{gid}", {"id": "after"}, owner)
    assert await texts(app, guest, gid) == ["during"]
    refused = await app.command(f"group/{gid}/join", {"id": "j2"}, guest)
    assert (refused.status, refused.code) == (400, "kicked")
    assert (await app.command(f"group/{gid}/invite", {"id": "i", "members": [guest]}, owner)).status == 204
    assert await members(app, gid) == {owner, guest}


async def test_a_command_is_done_once_and_acknowledged_each_time(app: App) -> None:
    owner, member = new_uid(), new_uid()
    gid = new_uid()
    for _ in range(2):
        answer = await app.command(f"group/{gid}/create", {"id": "c", "members": [member], "ack": True}, owner)
        assert answer.status == 204

    async def both() -> list[dict[str, Any]]:
        acks = app.emqx.told(owner, "im.ack")
        return acks if len(acks) == 2 else []

    first, second = await until(both)
    assert first["body"] == second["body"]
    assert first["body"]["id"] == "c"
    assert isinstance(first["body"]["mid"], int)
    assert len([each for each in await app.messages(member) if each["payload"]["type"] == "im.group.invite"]) == 1


async def test_500_invitations_are_bulk_publishes(app: App) -> None:
    owner = new_uid()
    invited = [new_uid() for _ in range(499)]
    before = len(app.emqx.requests)
    gid = await app.group(owner, *invited)

    async def all_told() -> bool:
        return all(app.emqx.told(uid, "im.group.invite") for uid in (invited[0], invited[-1]))

    await until(all_told)
    bulks = [each for each in app.emqx.requests[before:] if each.path.endswith("/publish/bulk")]
    assert len(bulks) < 10
    assert (await shown(app, gid))["member_count"] == 500


async def test_one_command_names_a_thousand(app: App, uid: str) -> None:
    """As strings of 16 digits, with spaces between them, in a group with the longest name."""
    gid, members = new_uid(), [str(10**15 + int(uid) * 1000 + number) for number in range(1000)]
    create = {"id": "c" * 64, "name": "\U0001f600" * 128, "mode": "read", "members": members}
    assert (await app.command(f"group/{gid}/create", json.dumps(create).encode(), uid)).status == 204
    assert (await shown(app, gid))["member_count"] == 1001
    kick = {"id": "k", "members": members}
    assert (await app.command(f"group/{gid}/kick", json.dumps(kick).encode(), uid)).status == 204
    assert (await shown(app, gid))["member_count"] == 1


# Not done


async def test_what_is_online_only_or_by_rest_is_no_command(app: App, uid: str) -> None:
    gid = new_uid()
    create = f"group/{gid}/create"
    assert (await app.command(create, {"id": "c"}, uid, qos=0)).status == 204
    assert (await app.command(create, {"id": "c"}, "undefined", rest=True)).status == 204
    assert (await app.admin("GET", f"/groups/{gid}")).status == 404
    assert await app.letters(uid) == []


BAD = [
    ("create", b"", "bad_command"),
    ("create", b"[]", "bad_command"),
    ("create", {}, "bad_command"),
    ("create", {"id": 7}, "bad_id"),
    ("create", {"id": "c", "from": "1"}, "wrong_from"),
    ("create", {"id": "c", "type": "im.x"}, "reserved_type"),
    ("create", {"id": "c", "members": "1002"}, "bad_command"),
    ("create", {"id": "c", "members": ["1002", "abc"]}, "bad_command"),
    ("create", {"id": "c", "members": [1002, 0]}, "bad_command"),
    ("create", {"id": "c", "members": [1002, True]}, "bad_command"),
    ("create", {"id": "c", "members": [1002.0]}, "bad_command"),
    ("create", {"id": "c", "members": [2**53]}, "bad_command"),
    ("create", {"id": "c", "members": list(range(1, 1002))}, "bad_command"),
    ("create", {"id": "c", "mode": "both"}, "bad_command"),
    ("create", {"id": "c", "open": 1}, "bad_command"),
    ("create", {"id": "c", "name": 7}, "bad_command"),
    ("create", {"id": "c", "name": "n" * 129}, "bad_command"),
    ("create", {"id": "c", "body": "b" * 16_384}, "payload_too_large"),
    ("create", {"id": "c", "members": [1] * 10, "body": "b" * 16_600}, "payload_too_large"),
    ("create", {"id": "c", "members": [1] * 2000, "body": "b" * 36_400}, "payload_too_large"),
    ("invite", {"id": "c"}, "bad_command"),
    ("kick", {"id": "c", "members": []}, "bad_command"),
    ("mode", {"id": "c"}, "bad_command"),
    *((name, {"id": "c", "members": [1002], "mode": "read"}, "unknown_group") for name in ("invite", "kick", "mode")),
    *((name, {"id": "c"}, "unknown_group") for name in ("join", "leave", "dismiss")),
    ("update", {"id": "c"}, "bad_command"),
    ("transfer", {"id": "c", "to": "x"}, "bad_command"),
    ("admin", {"id": "c", "members": [1002]}, "bad_command"),
    ("mute", {"id": "c", "members": "everybody", "seconds": 1}, "bad_command"),
    ("update", {"id": "c", "notice": "n"}, "unknown_group"),
    ("transfer", {"id": "c", "to": 1002}, "unknown_group"),
    ("admin", {"id": "c", "members": [1002], "on": True}, "unknown_group"),
    ("mute", {"id": "c", "members": "all", "seconds": 1}, "unknown_group"),
    ("explode", {"id": "c"}, "unknown_topic"),
]


async def refused(app: App, answer: Answer, uid: str, code: str, ref: str) -> None:
    assert (answer.status, answer.code) == (400, code)
    (letter,) = await app.letters(uid)
    assert (letter["source"], letter["reason"]) == ("group", code)
    error = await told(app, uid, "im.error")
    assert error["body"] == {"ref": ref, "code": code, "message": letter["message"]}
    assert error["key"] == receiver_key(SECRETS["secret"], uid)


@pytest.mark.parametrize(("name", "payload", "code"), BAD, ids=lambda value: str(value)[:40])
async def test_a_bad_command_changes_nothing(app: App, uid: str, name: str, payload: Any, code: str) -> None:
    gid = new_uid()
    body = command_body(f"group/{gid}/{name}", payload, uid)
    named = isinstance(payload, dict) and payload.get("id") == "c"
    await refused(app, await app.hook("group", body), uid, code, "c" if named else body["id"])
    assert (await app.admin("GET", f"/groups/{gid}")).status == 404


@pytest.mark.parametrize("topic", ["group/abc/create", "group/0/join", "business/tag_ä/follow", "business/x/follow"])
async def test_a_topic_that_names_nothing_is_refused(app: App, uid: str, topic: str) -> None:
    await refused(app, await app.command(topic, {"id": "c"}, uid), uid, "unknown_topic", "c")


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("create", {}, "gid_taken"),
        ("invite", {"members": [7]}, "not_a_member"),
        ("join", {}, "not_open"),
        ("leave", {}, "not_a_member"),
        *((name, {"members": [7], "mode": "read"}, "not_a_member") for name in ("kick", "dismiss", "mode")),
    ],
)
async def test_strangers_may_do_nothing(app: App, uid: str, name: str, fields: dict[str, Any], code: str) -> None:
    owner = new_uid()
    gid = await app.group(owner)
    answer = await app.command(f"group/{gid}/{name}", {"id": "c", **fields}, uid)
    await refused(app, answer, uid, code, "c")
    assert await members(app, gid) == {owner}


@pytest.mark.parametrize("name", ["kick", "dismiss", "mode", "update", "transfer", "admin", "mute"])
async def test_members_are_no_owners(app: App, uid: str, name: str) -> None:
    owner = new_uid()
    gid = await app.group(owner, uid)
    command = {"id": "c", "members": [owner], "mode": "read", "to": uid, "name": "x", "on": True, "seconds": 1}
    answer = await app.command(f"group/{gid}/{name}", command, uid)
    await refused(app, answer, uid, "not_the_owner", "c")
    assert await members(app, gid) == {owner, uid}
    assert (await shown(app, gid))["mode"] == "write"


async def test_a_command_that_was_refused_is_refused_again_or_done_when_it_may_be(app: App) -> None:
    owner, guest = new_uid(), new_uid()
    gid = new_uid()
    join = command_body(f"group/{gid}/join", {"id": "j"}, guest)
    for _ in range(2):
        answer = await app.hook("group", join)
        assert (answer.status, answer.code) == (400, "unknown_group")
    assert (await app.command(f"group/{gid}/create", {"id": "c", "open": True}, owner)).status == 204
    assert (await app.hook("group", join)).status == 204
    assert await members(app, gid) == {owner, guest}


@pytest.mark.parametrize("username", ["ops", "0", "+", ""])
async def test_only_users_command(app: App, username: str) -> None:
    gid = new_uid()
    answer = await app.command(f"group/{gid}/create", {"id": "c"}, username)
    assert (answer.status, answer.code) == (400, "not_a_user")
    assert (await app.admin("GET", f"/groups/{gid}")).status == 404


@pytest.mark.parametrize("field", ["topic", "id", "username", "qos", "payload_b64", "publish_received_at"])
@pytest.mark.parametrize("value", [..., [], True])
async def test_a_malformed_field_is_kept_as_a_dead_letter(app: App, uid: str, field: str, value: Any) -> None:
    body = {**command_body(f"group/{new_uid()}/create", {"id": "c"}, uid), field: value}
    if value is ...:
        del body[field]
    answer = await app.hook("group", body)
    assert (answer.status, answer.code) == (400, "bad_body")


async def test_a_dead_command_can_be_replayed(app: App) -> None:
    owner, guest = new_uid(), new_uid()
    gid = new_uid()
    await app.command(f"group/{gid}/join", {"id": "j"}, guest)
    (letter,) = await app.letters(guest)
    again = await app.admin("POST", f"/deadletters/{letter['n']}/replay")
    assert (again.status, again.code) == (400, "unknown_group")
    await app.command(f"group/{gid}/create", {"id": "c", "open": True}, owner)
    assert (await app.admin("POST", f"/deadletters/{letter['n']}/replay")).status == 204
    assert await members(app, gid) == {owner, guest}
