"""`IM_SUBSCRIBE=server`: devices are subscribed through EMQX's REST API, however long that is away."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hooks.emqx.rest import Rest
from hooks.messaging.dispatch import Dispatch
from hooks.metrics import Metrics
from store.operations.subscribing import Subscribing
from store.redis.connection import connect
from store.workers import Worker
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

GLOBAL = "business/global"


async def on_connected(app: App, uid: str, device: str = "phone") -> Session:
    """Returns a device that has connected anew and subscribed its own topic."""
    session = app.emqx.sessions[await app.connect(uid, device)]
    session.topics = {f"single/{uid}"}
    event = {**recorded("session_subscribed")[0], "clientid": f"{uid}-{device}"}
    answer = await app.hook("client", {**event, "username": uid, "topic": f"single/{uid}"})
    assert answer.status == 204
    return session


async def subscribed(session: Session, *topics: str) -> None:
    """Returns once the device is subscribed to its own topic and these."""

    async def exactly() -> bool:
        return session.topics == {f"single/{session.username}", *topics}

    await until(exactly, 30)


async def dispatched(app: App, outcome: str) -> float:
    return await app.metric(f'emqx_im_dispatches_total{{outcome="{outcome}"}}')


@pytest.mark.parametrize("by", ["server", "both"])
async def test_a_device_that_came_is_subscribed(own_redis: RedisServer, tmp_path: Path, by: str) -> None:
    async with running_app(own_redis.url, tmp_path, subscribe=by) as app:
        owner, member = new_uid(), new_uid()
        group, other = [f"group/{await app.group(owner, member)}" for _ in range(2)]
        phone = await on_connected(app, member)
        await subscribed(phone, GLOBAL, group, other)
        desk = await on_connected(app, member, "desk")
        await subscribed(desk, GLOBAL, group, other)
        third = f"group/{await app.group(owner, member)}"
        for session in (phone, desk):
            await subscribed(session, GLOBAL, group, other, third)
        await app.command(f"{group}/kick", {"id": "k", "members": [member]}, owner)
        for session in (phone, desk):
            await subscribed(session, GLOBAL, other, third)

        async def both_told() -> bool:
            return bool(app.emqx.told(member, "im.subscribe") and app.emqx.told(member, "im.unsubscribe"))

        if by == "both":
            await until(both_told)
        else:
            assert app.emqx.told(member, "im.subscribe") == app.emqx.told(member, "im.unsubscribe") == []


async def test_by_message_nothing_is_subscribed(app: App, uid: str) -> None:
    session = await on_connected(app, uid)

    async def told() -> list[dict[str, Any]]:
        return app.emqx.told(uid, "im.subscribe")

    await until(told)
    assert session.topics == {f"single/{uid}"}


async def test_a_kept_session_loses_what_its_user_has_lost(app: App) -> None:
    """By message, too: the user was told to unsubscribe while the device was away, or not at all."""
    owner, member = new_uid(), new_uid()
    group = f"group/{await app.group(owner, member)}"
    await app.connect(member, "tablet")
    session = app.emqx.sessions[f"{member}-tablet"]
    session.topics = {f"single/{member}", group, "group/1", "business/tag_x", "own/topic"}
    event = {**recorded("client_connected")[0], "clientid": f"{member}-tablet", "username": member}
    assert (await app.hook("client", {**event, "clean_start": False})).status == 204
    await subscribed(session, group, "own/topic")


async def test_a_kept_session_is_put_right(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, subscribe="server") as app:
        owner, member = new_uid(), new_uid()
        group = f"group/{await app.group(owner, member)}"
        clientid = f"{member}-tablet"
        session = app.emqx.sessions[clientid] = Session(
            member, {f"single/{member}", GLOBAL, "group/1", "business/tag_x"}
        )
        event = {**recorded("client_connected")[0], "clientid": clientid, "username": member, "clean_start": False}
        assert (await app.hook("client", event)).status == 204
        await subscribed(session, GLOBAL, group)


async def test_a_broker_that_is_away_is_tried_until_it_is_back(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, subscribe="server") as app:
        app.emqx.status = 503
        uids = [new_uid() for _ in range(3)]
        sessions = [await on_connected(app, uid) for uid in uids]

        async def retried() -> bool:
            return await dispatched(app, "retried") > 2

        await until(retried, 20)
        app.emqx.status = 200
        for session in sessions:
            await subscribed(session, GLOBAL)
        assert await dispatched(app, "done") == 3


async def test_a_device_that_has_gone_is_left_alone(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, subscribe="server") as app:
        uid = new_uid()
        event = {**recorded("session_subscribed")[0], "clientid": f"{uid}-gone", "username": uid}
        assert (await app.hook("client", {**event, "topic": f"single/{uid}"})).status == 204
        await subscribed(await on_connected(app, uid), GLOBAL)
        assert await dispatched(app, "failed") == 0


async def test_who_is_removed_meanwhile_stays_so(own_redis: RedisServer, tmp_path: Path) -> None:
    """The list was read before the kick, and EMQX subscribes the device after it."""
    async with running_app(own_redis.url, tmp_path, subscribe="server") as app:
        owner, member = new_uid(), new_uid()
        group = f"group/{await app.group(owner, member)}"

        async def granted() -> bool:
            return await app.metric('emqx_im_permission_changes_total{outcome="granted"}') == 2

        async def revoked() -> float:
            return await app.metric('emqx_im_permission_changes_total{outcome="revoked"}')

        async def subscribing() -> bool:
            return any(request.path.endswith(f"{member}-phone/subscribe/bulk") for request in app.emqx.requests)

        async def revoking() -> bool:
            return any(request.path.endswith(f"{member}-phone/unsubscribe/bulk") for request in app.emqx.requests)

        await until(granted, 20)
        app.emqx.subscribe_gate.clear()
        session = await on_connected(app, member)
        await until(subscribing)
        await app.command(f"{group}/kick", {"id": "k", "members": [member]}, owner)
        await until(revoking, 20)
        app.emqx.subscribe_gate.set()
        await subscribed(session, GLOBAL)
        await until(revoked, 20)


async def test_without_a_rest_api_it_is_counted(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, subscribe="server", emqx_api_url=None) as app:
        await on_connected(app, new_uid())
        assert await dispatched(app, "no_api") == 1


async def test_who_is_removed_stays_so_though_a_process_dies_meanwhile(own_redis: RedisServer, tmp_path: Path) -> None:
    """It has read the list before the kick, and has died when EMQX carries out what it asked for."""
    async with running_app(own_redis.url, tmp_path, subscribe="server") as app:
        owner, member = new_uid(), new_uid()
        group = f"group/{await app.group(owner, member)}"
        clientid = await app.connect(member)
        session = app.emqx.sessions[clientid]

        async def granted() -> bool:
            return await app.metric('emqx_im_permission_changes_total{outcome="granted"}') == 2

        await until(granted, 20)
        redis, rest = connect(own_redis.url), Rest(app.emqx.url, "key", "api-secret", Metrics())
        dying, looks = Dispatch(rest, Subscribing(redis), Metrics()), list[int]()

        async def topics(uid: int) -> list[str]:
            looks.append(uid)
            if len(looks) > 1:
                await asyncio.Event().wait()
            return [group]

        async def calls(ending: str) -> int:
            return sum(request.path.endswith(f"{clientid}/{ending}") for request in app.emqx.requests)

        async def subscribed_after_all() -> bool:
            return len(looks) > 1

        async def unsubscribed() -> bool:
            return group not in session.topics

        stop = asyncio.Event()
        running = asyncio.create_task(dying.run(topics, Worker("dispatch", stop)))
        app.emqx.subscribe_gate.clear()
        dying.put(int(member), clientid, resumed=False, adds=True)
        await until(lambda: calls("subscribe/bulk"))
        await app.command(f"{group}/kick", {"id": "k", "members": [member]}, owner)
        await until(lambda: calls("unsubscribe/bulk"))
        app.emqx.subscribe_gate.set()
        await until(subscribed_after_all)
        await until(unsubscribed)
        stop.set()
        await running
        await rest.close()
        await redis.aclose()
