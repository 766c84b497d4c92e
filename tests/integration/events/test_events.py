"""Events of what the hooks store, through a running service, to the operator's back end."""

from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.events.kinds import EventKind
from tests.integration.app import App, running_app, until
from tests.integration.events.back_end import SECRET, BackEnd, running_back_end
from tests.servers import RedisServer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def back_end() -> AsyncIterator[BackEnd]:
    async with running_back_end() as end:
        yield end


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(
    common_redis: RedisServer, back_end: BackEnd, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[App]:
    """The service with every kind of event asked for."""
    asked = {"events_url": back_end.url, "events_secret": SECRET, "events": ",".join(EventKind)}
    directory: Path = tmp_path_factory.mktemp("events")
    async with running_app(common_redis.url, directory, **asked) as running:
        yield running


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
