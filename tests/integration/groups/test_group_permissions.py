"""Tests permissions at the broker: removed users are unsubscribed and caches dropped, however long it is away."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


def keep(app: App, uid: str, device: str, *topics: str) -> Session:
    """Returns the kept session of a device that is away; nobody online knows of it."""
    session = app.emqx.sessions[f"{uid}-{device}"] = Session(uid, topics, connected=False)
    return session


async def unsubscribed(topic: str, *sessions: Session) -> None:
    async def none() -> bool:
        return not any(topic in session.topics for session in sessions)

    await until(none, 30)


async def retried(app: App, times: int = 1) -> None:
    """Returns once the worker has begun and failed so often from now on."""
    sample = 'emqx_im_permission_changes_total{outcome="retried"}'
    before = await app.metric(sample)

    async def enough() -> bool:
        return await app.metric(sample) >= before + times

    await until(enough, 20)


@pytest.mark.parametrize("how", ["kick", "leave", "dismiss", "admin"])
async def test_who_is_removed_is_unsubscribed_in_every_session(app: App, how: str) -> None:
    owner, member, other = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, member, other)
    topic = f"group/{gid}"
    online = app.emqx.sessions[await app.connect(member)]
    online.topics = {topic, "single/x"}
    kept = keep(app, member, "tablet", topic)
    others = keep(app, other, "phone", topic)
    before = online.dropped
    match how:
        case "kick":
            answer = await app.command(f"{topic}/kick", {"id": "k", "members": [member]}, owner)
        case "leave":
            answer = await app.command(f"{topic}/leave", {"id": "l"}, member)
        case "dismiss":
            answer = await app.command(f"{topic}/dismiss", {"id": "d"}, owner)
        case _:
            answer = await app.admin("POST", f"/groups/{gid}/members", json={"remove": [member]})
    assert answer.status in (200, 204)
    await unsubscribed(topic, online, kept)
    assert online.topics == {"single/x"}
    assert online.dropped > before
    if how == "dismiss":
        await unsubscribed(topic, others)
    else:
        assert others.topics == {topic}


async def test_who_is_told_to_unsubscribe(app: App) -> None:
    owner, member, away = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, member, away)
    await app.connect(member)
    await app.command(f"group/{gid}/kick", {"id": "k", "members": [member, away]}, owner)

    async def told() -> list[dict[str, Any]]:
        return app.emqx.told(member, "im.unsubscribe")

    message = (await until(told))[0]
    assert message["body"]["topics"] == [{"topic": f"group/{gid}", "qos": 1}]
    assert message["body"]["head"] > 0
    assert app.emqx.told(away, "im.unsubscribe") == []


async def test_an_invitation_drops_the_denial_and_then_tells_to_subscribe(app: App) -> None:
    owner, member = new_uid(), new_uid()
    session = app.emqx.sessions[await app.connect(member)]
    gid = await app.group(owner, member, name="Räder", mode="read")

    async def told() -> list[dict[str, Any]]:
        return app.emqx.told(member, "im.subscribe")

    (message,) = await until(told)
    assert session.dropped == 1
    topic = {"topic": f"group/{gid}", "qos": 1, "name": "Räder", "mode": "read", "role": "member"}
    assert message["body"]["topics"] == [topic]
    assert message["body"]["head"] > 0


async def test_a_client_that_is_gone_holds_nothing_up(app: App) -> None:
    owner, member, other = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, member, other)
    del app.emqx.sessions[await app.connect(member)]
    kept = keep(app, other, "phone", f"group/{gid}")
    await app.command(f"group/{gid}/kick", {"id": "k", "members": [member, other]}, owner)
    await unsubscribed(f"group/{gid}", kept)


async def test_who_is_back_stays_subscribed(app: App) -> None:
    owner, member, other = new_uid(), new_uid(), new_uid()
    gid = await app.group(owner, member, other)
    topic = f"group/{gid}"
    app.emqx.status = 503
    try:
        await app.command(f"{topic}/kick", {"id": "k", "members": [member, other]}, owner)
        await app.command(f"{topic}/invite", {"id": "i", "members": [member]}, owner)
        await retried(app, 2)
        back, gone = keep(app, member, "phone", topic), keep(app, other, "phone", topic)
    finally:
        app.emqx.status = 200
    await unsubscribed(topic, gone)
    assert back.topics == {topic}


@pytest.mark.parametrize("status", [401, 503])
async def test_what_the_broker_refuses_is_tried_until_it_is_done(app: App, status: int) -> None:
    owner, member = new_uid(), new_uid()
    gid = await app.group(owner, member)
    kept = keep(app, member, "phone", f"group/{gid}")
    app.emqx.status = status
    try:
        assert (await app.command(f"group/{gid}/kick", {"id": "k", "members": [member]}, owner)).status == 204
        await retried(app, 2)
        assert kept.topics
    finally:
        app.emqx.status = 200
    await unsubscribed(f"group/{gid}", kept)


async def test_a_restart_forgets_none_of_it(own_redis: RedisServer, tmp_path: Path) -> None:
    owner, member = new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path) as app:
        gid = await app.group(owner, member)
        app.emqx.status = 503
        await app.command(f"group/{gid}/kick", {"id": "k", "members": [member]}, owner)
        await retried(app)
    async with running_app(own_redis.url, tmp_path) as app:
        kept = keep(app, member, "phone", f"group/{gid}")
        await unsubscribed(f"group/{gid}", kept)


async def test_a_broker_that_does_not_answer_holds_up_no_stop(own_redis: RedisServer, tmp_path: Path) -> None:
    owner, members = new_uid(), [new_uid() for _ in range(50)]
    async with running_app(own_redis.url, tmp_path) as app:
        gid = await app.group(owner, *members)
        app.emqx.status = 0
        await app.command(f"group/{gid}/dismiss", {"id": "d"}, owner)

        async def asked() -> bool:
            return any(request.path.endswith("/clients") for request in app.emqx.requests)

        await until(asked)
        ended = time.monotonic()
    assert time.monotonic() - ended < 10


async def test_without_a_rest_api_the_list_does_not_grow(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, emqx_api_url=None) as app:
        await app.group(new_uid(), new_uid())

        async def counted() -> bool:
            return await app.metric('emqx_im_permission_changes_total{outcome="no_api"}') >= 2

        await until(counted)
