"""Read marks, settings and blocks as users ask for them over MQTT, and as pulls and devices get them."""

import asyncio
import time
from typing import Any

import pytest

from hooks.tokens.bearer import receiver_key
from tests.integration.app import SECRETS, App, new_uid, until
from tests.integration.webhook.test_recalls import refused, sent

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def states(app: App, uid: str, **arguments: Any) -> list[dict[str, Any]]:
    """Those of a pull, but for their ids."""
    found = (await app.pull(uid, **arguments)).json.get("states", [])
    return [{name: value for name, value in state.items() if name != "at"} for state in found]


async def done(app: App, topic: str, given: dict[str, Any], uid: str) -> None:
    answer = await app.command(topic, given, uid)
    assert answer.status == 204, answer.raw


async def heard(app: App, uid: str, count: int) -> list[dict[str, Any]]:
    """Returns what the user's devices were told live, once there is that much."""

    async def told() -> list[dict[str, Any]] | None:
        found = app.emqx.told(uid, "im.state")
        return found if len(found) >= count else None

    return list(await until(told))


async def test_a_setting_comes_with_the_pull_and_live(app: App, uid: str) -> None:
    topic = f"single/{uid}/set"
    await done(app, topic, {"id": "s", "key": "pins", "value": {"a": [1]}, "ack": True}, uid)
    (state,) = (await app.pull(uid)).json["states"]
    assert state == {"kind": "setting", "key": "pins", "value": {"a": [1]}, "at": state["at"]}
    (live,) = await heard(app, uid, 1)
    assert live["body"] == state
    assert live["key"] == receiver_key(SECRETS["secret"], uid)
    (ack,) = await until(lambda: _told(app, uid, "im.ack"))
    assert ack["body"] == {"id": "s", "mid": state["at"]}
    await done(app, topic, {"id": "t", "key": "pins", "value": None}, uid)
    assert await states(app, uid, last_id=state["at"]) == [{"kind": "setting", "key": "pins", "value": None}]


async def _told(app: App, uid: str, kind: str) -> list[dict[str, Any]]:
    return app.emqx.told(uid, kind)


async def test_a_pull_without_news_has_no_states(app: App, uid: str) -> None:
    await done(app, f"single/{uid}/set", {"id": "s", "key": "a", "value": 1}, uid)
    first = (await app.pull(uid)).json
    assert "states" not in (await app.pull(uid, last_id=first["last_id"])).json


async def test_the_peer_sees_how_far_they_were_read(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{uid}", other_uid)
    await done(app, f"single/{other_uid}/read", {"id": "r", "mid": mid}, uid)
    assert await states(app, uid) == [{"kind": "read", "topic": f"single/{other_uid}", "mid": mid}]
    told = {"kind": "read", "topic": f"single/{uid}", "by": uid, "mid": mid}
    assert await states(app, other_uid) == [told]
    (live,) = await heard(app, other_uid, 1)
    assert {**live["body"], "at": 0} == {**told, "at": 0}


async def test_marks_of_groups_and_of_everybody_are_the_users_own(app: App, uid: str, other_uid: str) -> None:
    gid = await app.group(uid, other_uid)
    mid = await sent(app, f"group/{gid}", other_uid)
    await done(app, f"group/{gid}/read", {"id": "r", "mid": mid}, uid)
    await done(app, "business/global/read", {"id": "r", "mid": mid}, uid)
    marks = [{"kind": "read", "topic": topic, "mid": mid} for topic in (f"group/{gid}", "business/global")]
    assert await states(app, uid) == marks
    assert await states(app, other_uid) == []


async def test_who_is_blocked_is_told_so(app: App, uid: str, other_uid: str) -> None:
    mid = await sent(app, f"single/{uid}", other_uid)
    await done(app, f"single/{other_uid}/block", {"id": "b"}, uid)
    assert await states(app, uid) == [{"kind": "block", "uid": other_uid, "on": True}]
    answer = await app.publish(f"single/{uid}", {"id": "m2", "body": 1}, other_uid)
    assert (answer.status, answer.code) == (400, "blocked")
    (letter,) = await app.letters(other_uid)
    assert letter["reason"] == "blocked"
    (error,) = await until(lambda: _told(app, other_uid, "im.error"))
    assert (error["body"]["ref"], error["body"]["code"]) == ("m2", "blocked")
    edit = {"id": "e", "mid": mid, "type": "text", "body": 2}
    assert await refused(app, f"single/{uid}/edit", edit, other_uid) == "blocked"
    await done(app, f"single/{uid}/recall", {"id": "r", "mid": mid}, other_uid)
    assert (await app.publish(f"single/{other_uid}", {"id": "m", "body": 1}, uid)).status == 204
    await done(app, f"single/{other_uid}/unblock", {"id": "u"}, uid)
    assert (await app.publish(f"single/{uid}", {"id": "m3", "body": 1}, other_uid)).status == 204


async def test_invitations_of_the_blocked_are_refused_whole(app: App, uid: str, other_uid: str) -> None:
    third = new_uid()
    await done(app, f"single/{other_uid}/block", {"id": "b"}, uid)
    gid = await app.group(other_uid)
    members = {"id": "i", "members": [third, uid]}
    assert await refused(app, f"group/{gid}/invite", members, other_uid) == "blocked"
    assert await refused(app, f"group/{gid}7/create", {"id": "c", "members": [uid]}, other_uid) == "blocked"
    assert (await app.messages(third)) == []
    await done(app, f"group/{gid}/invite", {"id": "j", "members": [third]}, other_uid)
    await done(app, f"group/{gid}/invite", {"id": "k", "members": [uid]}, third)


@pytest.mark.parametrize(
    "given",
    [
        {"id": "s"},
        {"id": "s", "key": "a"},
        {"id": "s", "key": 5, "value": 1},
        {"id": "s", "key": "", "value": 1},
        {"id": "s", "key": "k" * 129, "value": 1},
        {"id": "s", "key": "a", "value": "v" * 2047},
    ],
)
async def test_settings_that_are_none_are_refused(app: App, uid: str, given: dict[str, Any]) -> None:
    assert await refused(app, f"single/{uid}/set", given, uid) == "bad_command"


async def test_the_longest_setting_is_taken(app: App, uid: str) -> None:
    given = {"key": "\U0001f600" * 128, "value": "v" * 2046}
    await done(app, f"single/{uid}/set", {"id": "s", **given}, uid)
    assert await states(app, uid) == [{"kind": "setting", **given}]


async def test_nobody_sets_what_is_not_theirs_or_blocks_themselves(app: App, uid: str, other_uid: str) -> None:
    given = {"id": "s", "key": "a", "value": 1}
    assert await refused(app, f"single/{other_uid}/set", given, uid) == "bad_command"
    assert await refused(app, f"single/{uid}/block", {"id": "b"}, uid) == "bad_command"
    assert await states(app, other_uid) == []


@pytest.mark.parametrize("mid", [None, "5", 0, -1, 2**53, 1.5])
async def test_a_mark_needs_a_mid(app: App, uid: str, mid: Any) -> None:
    assert await refused(app, "single/5/read", {"id": "r", "mid": mid}, uid) == "bad_command"


async def test_a_mark_of_what_is_to_come_is_refused(app: App, uid: str) -> None:
    ahead = time.time_ns() // 1000 + 60_000_000
    assert await refused(app, "business/global/read", {"id": "r", "mid": ahead}, uid) == "bad_mid"
    assert await refused(app, "group/9007199254740990/read", {"id": "s", "mid": 5}, uid) == "unknown_group"


async def test_a_pull_that_waits_hears_of_a_change(app: App, uid: str) -> None:
    start = (await app.pull(uid)).json["last_id"]
    waiting = asyncio.create_task(app.pull(uid, last_id=start, wait=30))
    await until(lambda: _waits(app))
    await done(app, f"single/{uid}/set", {"id": "s", "key": "a", "value": 1}, uid)
    async with asyncio.timeout(10):
        answer = (await waiting).json
    assert [state["key"] for state in answer["states"]] == ["a"]


async def _waits(app: App) -> bool:
    return await app.metric("emqx_im_waiting_pulls") > 0
