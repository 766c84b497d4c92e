"""Publishes that the broker denies: told to their senders, with the topic, and asked for again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hooks.messaging import caches
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def publishes(app: App, uid: str, topic: str, qos: str = "1", device: str = "phone") -> str:
    """Returns what EMQX is answered when the user publishes."""
    question = {"username": uid, "clientid": f"{uid}-{device}", "action": "publish", "topic": topic, "qos": qos}
    answer = await app.hook("authz", {**recorded("authz")[0], **question})
    return str(answer.json["result"])


async def told(app: App, uid: str, count: int = 1) -> list[dict[str, Any]]:
    """Returns the bodies of `im.error`, once there are so many."""

    async def enough() -> bool:
        return len(app.emqx.told(uid, "im.error")) >= count

    await until(enough)
    return [each["body"] for each in app.emqx.told(uid, "im.error")]


async def only_the_last(app: App, uid: str) -> dict[str, Any]:
    """Returns what was told of a topic that is denied for certain, published to after all the others: and nothing
    else was.
    """
    assert await publishes(app, uid, "nowhere") == "deny"
    (body,) = await told(app, uid)
    assert body["topic"] == "nowhere"
    return body


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("group/{unknown}", "unknown_group"),
        ("group/{dismissed}", "unknown_group"),
        ("group/{others}", "not_a_member"),
        ("group/{kicked}", "not_a_member"),
        ("group/{left}", "not_a_member"),
        ("business/global", "not_an_operator"),
        ("business/tag_x", "not_an_operator"),
        ("business/x", "unknown_topic"),
        ("group/77/x", "unknown_topic"),
        ("im/will/1", "unknown_topic"),
        ("anything/else", "unknown_topic"),
    ],
)
async def test_the_sender_is_told_why(app: App, uid: str, other_uid: str, topic: str, code: str) -> None:
    gids = {name: await app.group(other_uid, *members) for name, members in [("others", []), ("kicked", [uid])]}
    gids |= {"left": await app.group(other_uid, uid), "dismissed": await app.group(uid), "unknown": new_uid()}
    await app.command(f"group/{gids['kicked']}/kick", {"id": "k", "members": [uid]}, other_uid)
    await app.command(f"group/{gids['left']}/leave", {"id": "l"}, uid)
    await app.command(f"group/{gids['dismissed']}/dismiss", {"id": "d"}, uid)
    assert await publishes(app, uid, topic.format(**gids)) == "deny"
    (body,) = await told(app, uid)
    message = body.pop("message")
    assert body == {"ref": "", "code": code, "topic": topic.format(**gids)}
    assert message
    assert app.emqx.told(uid, "im.error")[0]["key"] == (await app.pull(uid)).json["key"]


async def test_one_topic_is_told_of_once_and_then_again(
    own_redis: RedisServer, tmp_path: Path, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMQX asks once for each connection, until it has forgotten what it was answered."""
    monkeypatch.setattr(caches, "_LATER_SECONDS", 1.5)
    async with running_app(own_redis.url, tmp_path) as app:
        session = app.emqx.sessions[f"{uid}-phone"] = Session(uid)
        for _ in range(5):
            await publishes(app, uid, "business/x")
        await publishes(app, uid, "business/y")
        assert [body["topic"] for body in await told(app, uid, 2)] == ["business/x", "business/y"]

        async def forgotten() -> bool:
            return session.dropped > 0

        await until(forgotten)
        await publishes(app, uid, "business/x")
        assert [body["topic"] for body in await told(app, uid, 3)] == ["business/x", "business/y", "business/x"]
        assert session.dropped == 1
        assert await app.metric('emqx_im_denied_publishes_total{code="unknown_topic"}') == 3


async def test_a_cache_is_dropped_whatever_the_broker_says_first(
    own_redis: RedisServer, tmp_path: Path, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "_LATER_SECONDS", 0.3)
    async with running_app(own_redis.url, tmp_path) as app:
        session = app.emqx.sessions[f"{uid}-phone"] = Session(uid)
        app.emqx.status = 503
        await publishes(app, uid, "business/x")

        async def tried() -> bool:
            return await app.metric('emqx_im_device_caches_dropped_total{outcome="retried"}') > 0

        await until(tried)
        app.emqx.status = 200

        async def forgotten() -> bool:
            return session.dropped > 0

        await until(forgotten)


async def test_a_flood_of_topics_is_not_answered_by_one(app: App, uid: str) -> None:
    sample = 'emqx_im_denied_publishes_total{code="untold"}'
    before = await app.metric(sample)
    for number in range(50):
        assert await publishes(app, uid, f"flood/{number}") == "deny"
    assert await app.metric(sample) - before >= 30
    assert len(await told(app, uid, 5)) <= 20


@pytest.mark.parametrize("qos", ["0", "2"])
async def test_what_is_not_stored_is_not_told_of(app: App, uid: str, qos: str) -> None:
    assert await publishes(app, uid, "business/x", qos) == "deny"
    await only_the_last(app, uid)


async def test_who_may_by_then_is_told_nothing(app: App, uid: str) -> None:
    """The wait of this connection for groups on their way is over, and the `create` came later."""
    gid = new_uid()
    assert await publishes(app, uid, f"group/{new_uid()}", "0") == "deny"
    assert await publishes(app, uid, f"group/{gid}") == "deny"
    assert (await app.command(f"group/{gid}/create", {"id": "c"}, uid)).status == 204
    await only_the_last(app, uid)


async def test_only_users_are_told(app: App, uid: str) -> None:
    """A system client has no topic."""
    for name in ("somebody", "ops", "0", "undefined"):
        assert await publishes(app, name, "business/x") == "deny"
    await only_the_last(app, uid)
    assert [each for name in ("somebody", "ops", "0") for each in app.emqx.told(name)] == []


async def test_a_refused_subscription_is_not_told_of(app: App, uid: str) -> None:
    question = {"username": uid, "clientid": f"{uid}-phone", "action": "subscribe", "topic": "group/77/create"}
    assert (await app.hook("authz", {**recorded("authz")[0], **question})).json["result"] == "deny"
    await only_the_last(app, uid)


async def test_a_very_long_topic_is_cut(app: App, uid: str) -> None:
    assert await publishes(app, uid, "x" * 60_000) == "deny"
    (body,) = await told(app, uid)
    assert body["topic"] == "x" * 256


async def test_a_stop_tells_who_waits(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        await publishes(app, uid, "business/x")
    (body,) = [each["body"] for each in app.emqx.told(uid, "im.error")]
    assert body["topic"] == "business/x"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trusting(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with running_app(common_redis.url, tmp_path_factory.mktemp("trusting"), trusted_send=True) as running:
        yield running


async def test_with_trusted_sending_the_receivers_topic_is_named(trusting: App, uid: str) -> None:
    gid = await trusting.group(new_uid())
    topics = [f"send/group/{gid}", f"group/{gid}", "single/1002", "send/business/x"]
    for topic in topics:
        assert await publishes(trusting, uid, topic) == "deny"
    assert {(body["topic"], body["code"]) for body in await told(trusting, uid, 4)} == {
        (f"group/{gid}", "not_a_member"),
        (f"group/{gid}", "unknown_topic"),
        ("single/1002", "unknown_topic"),
        ("send/business/x", "unknown_topic"),
    }
