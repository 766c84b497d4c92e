"""Events of what the hooks store, through a running service, to the operator's back end."""

import time
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.events.kinds import EventKind
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.events.back_end import SECRET, BackEnd, running_back_end
from tests.recorded import recorded
from tests.servers import RedisServer, program


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def back_end() -> AsyncIterator[BackEnd]:
    async with running_back_end() as end:
        yield end


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(back_end: BackEnd, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """The service with every kind of event asked for. With a Redis that no other service archives from."""
    redis = RedisServer(tmp_path_factory.mktemp("events_redis"), program("redis-server"))
    redis.start()
    asked = {"events_url": back_end.url, "events_secret": SECRET, "events": ",".join(EventKind), "operators": "ops"}
    directory: Path = tmp_path_factory.mktemp("events")
    try:
        async with running_app(redis.url, directory, **asked) as running:
            yield running
    finally:
        redis.stop()


async def events(back_end: BackEnd, kind: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Returns the events of a kind with these fields, once there are so many."""

    async def found() -> list[dict[str, Any]]:
        held = [each for each in back_end.taken(kind) if all(each[name] == fields[name] for name in fields)]
        return held if len(held) >= count else []

    held: list[dict[str, Any]] = await until(found)
    assert len(held) == count
    return held


@pytest.mark.asyncio(loop_scope="session")
class TestEvents:
    async def test_a_stored_message_is_told_as_it_is_pulled(
        self, app: App, back_end: BackEnd, uid: str, other_uid: str
    ) -> None:
        topic = f"single/{uid}"
        await app.publish(topic, {"id": "1", "type": "text", "body": "é"}, other_uid)
        await app.publish(topic, {"id": "1", "type": "text", "body": "é"}, other_uid)
        await app.publish(topic, b"\xff opaque", other_uid)
        await app.publish(topic, {"id": "never", "type": "im.forged"}, other_uid)
        first, second = await events(back_end, "message.stored", 2, topic=topic)
        pulled, opaque = await app.messages(uid)
        assert first == {
            "id": first["id"],
            "type": "message.stored",
            "at": pulled["mid"] // 1000,
            **{name: pulled[name] for name in ("mid", "topic", "from", "ts", "payload")},
        }
        assert second["mid"] == opaque["mid"]
        assert b64decode(second["payload_b64"]) == b"\xff opaque"

    async def test_a_recall_and_an_edit_are_told(self, app: App, back_end: BackEnd, uid: str, other_uid: str) -> None:
        topic = f"single/{uid}"
        for client_id in "12":
            await app.publish(topic, {"id": client_id, "type": "text", "body": "x"}, other_uid)
        first, second = [each["mid"] for each in await app.messages(uid)]
        await app.command(f"{topic}/edit", {"id": "e", "mid": first, "type": "text", "body": "y"}, other_uid)
        await app.command(f"{topic}/recall", {"id": "r", "mid": second}, other_uid)
        (edited,) = await events(back_end, "message.edited", 1, topic=topic)
        (recalled,) = await events(back_end, "message.recalled", 1, topic=topic)
        assert (edited["mid"], edited["by"]) == (first, other_uid)
        assert (recalled["mid"], recalled["by"]) == (second, other_uid)
        assert recalled["at"] >= edited["at"] > first // 1000 - 1

    async def test_coming_online_and_going_offline_are_told(self, app: App, back_end: BackEnd, uid: str) -> None:
        for device in ("phone", "tablet"):
            await app.connect(uid, device)
        (online,) = await events(back_end, "user.online", 1, uid=uid)
        for device in ("phone", "tablet"):
            clientid = f"{uid}-{device}"
            went = {"clientid": clientid, "username": uid, "connected_at": app.emqx.sessions[clientid].connected_at}
            answer = await app.hook("client", {**recorded("client_disconnected")[0], **went, "reason": "tcp_closed"})
            assert answer.status == 204
        (offline,) = await events(back_end, "user.offline", 1, uid=uid)
        assert online["at"] <= offline["at"] <= time.time() * 1000

    async def test_what_is_refused_is_told_as_its_dead_letter(self, app: App, back_end: BackEnd, uid: str) -> None:
        await app.publish("single/1", {"id": "1", "type": "im.forged"}, uid)
        (refused,) = await events(back_end, "message.refused", 1, sender=uid)
        (letter,) = await app.letters(uid)
        assert refused == {"id": refused["id"], "type": "message.refused", **letter}

    async def test_changes_of_a_group_are_told(self, app: App, back_end: BackEnd, uid: str, other_uid: str) -> None:
        third = new_uid()
        gid = await app.group(uid, other_uid)
        topic = f"group/{gid}"
        for verb, sender, fields in (
            ("invite", other_uid, {"members": [third]}),
            ("update", uid, {"name": "a name"}),
            ("admin", uid, {"members": [third], "on": True}),
            ("mute", uid, {"members": [other_uid], "seconds": 60}),
            ("kick", third, {"members": [other_uid]}),
            ("mode", uid, {"mode": "read"}),
            ("transfer", uid, {"to": third}),
            ("leave", uid, {}),
            ("dismiss", third, {}),
        ):
            assert (await app.command(f"{topic}/{verb}", {"id": verb, **fields}, sender)).status == 204
        told = await events(back_end, "group.changed", 10, gid=gid)
        assert [(each["change"], each["by"], sorted(each["members"])) for each in told] == [
            ("create", uid, sorted([uid, other_uid])),
            ("invite", other_uid, [third]),
            ("update", uid, []),
            ("admin", uid, [third]),
            ("mute", uid, [other_uid]),
            ("kick", third, [other_uid]),
            ("mode", uid, []),
            ("transfer", uid, [third]),
            ("leave", uid, [uid]),
            ("dismiss", third, []),
        ]

    async def test_receivers_without_a_device_online_are_named(
        self, app: App, back_end: BackEnd, uid: str, other_uid: str
    ) -> None:
        sender, away = new_uid(), new_uid()
        await app.connect(uid)
        for receiver in (uid, other_uid, sender):
            await app.publish(f"single/{receiver}", {"id": "1", "type": "text"}, sender)
        for mode in ("write", "read"):
            gid = await app.group(sender, uid, other_uid, away, mode=mode)
            await app.publish(f"group/{gid}", {"id": "2", "type": "text"}, sender)
            await app.publish(f"group/{gid}", {"id": "3", "type": "text"}, away)
        alone = await app.group(sender, uid)
        await app.publish(f"group/{alone}", {"id": "4", "type": "text"}, sender)
        await app.publish("business/global", {"id": "5", "type": "text"}, "ops")

        async def told_of() -> list[dict[str, Any]]:
            held = [each for each in back_end.taken("message.offline") if each["from"] in (sender, away, "ops")]
            return held if len(held) >= 6 else []

        told = await until(told_of)
        named = [
            (each["topic"].partition("/")[0], each["payload"]["id"], sorted(each["uids"] or ["all"])) for each in told
        ]
        assert named == [
            ("single", "1", [other_uid]),
            ("group", "2", sorted([other_uid, away])),
            ("group", "3", sorted([other_uid, sender])),
            ("group", "2", sorted([other_uid, away])),
            ("group", "3", sorted([other_uid, sender])),
            ("business", "5", ["all"]),
        ]
        pulled = (await app.messages(other_uid))[0]
        assert all(told[0][name] == pulled[name] for name in ("mid", "topic", "from", "ts", "payload"))

    async def test_the_metrics_say_what_waits_and_what_was_sent(
        self, app: App, back_end: BackEnd, uid: str, other_uid: str
    ) -> None:
        await app.publish(f"single/{uid}", {"id": "1"}, other_uid)
        await events(back_end, "message.stored", 1, topic=f"single/{uid}")
        assert await app.metric('emqx_im_events_sent_total{type="message.stored"}') > 0

        async def nothing_waits() -> bool:
            return await app.metric("emqx_im_events_waiting") == 0

        await until(nothing_waits)
        assert await app.metric("emqx_im_events_bytes") == 0
        assert await app.metric("emqx_im_events_lag_seconds") == 0
        assert await app.metric('emqx_im_events_lost{reason="full"}') == 0
