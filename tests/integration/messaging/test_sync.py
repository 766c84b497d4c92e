"""Tests `im.sync`: which users are told that they may have missed something, and which are not."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hooks.tokens.bearer import receiver_key
from store.presence.notification_claims import NotificationClaims
from store.redis import connection, keys
from tests.integration.app import SECRETS, App, new_uid, running_app, until
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


def ago(milliseconds: int) -> int:
    return time.time_ns() // 1_000_000 - milliseconds


async def connect(app: App, uid: str, at: int, device: str = "phone") -> None:
    came = {"clientid": f"{uid}-{device}", "username": uid, "connected_at": at}
    assert (await app.hook("client", {**recorded("client_connected")[0], **came})).status == 204


async def drop(app: App, uid: str, device: str = "phone", **changed: Any) -> None:
    body = {**recorded("delivery_dropped")[0], "hook": "client", "clientid": f"{uid}-{device}", "username": uid}
    assert (await app.hook("client", {**body, **changed})).status == 204


async def told(app: App, uid: str) -> dict[str, Any]:
    """Returns what the first `im.sync` says, once it is there."""

    async def there() -> list[dict[str, Any]]:
        return app.emqx.told(uid, "im.sync")

    message: dict[str, Any] = (await until(there, 20))[0]
    assert message["key"] == receiver_key(SECRETS["secret"], uid)
    body: dict[str, Any] = message["body"]
    return body


async def syncs(app: App) -> None:
    """Returns once everything that was noticed before is told."""
    other = new_uid()
    await connect(app, other, ago(0))
    await drop(app, other)
    await told(app, other)


async def head(app: App, uid: str) -> int:
    answer = (await app.pull(uid, limit=1000)).json
    assert not answer["more"]
    return int(answer["messages"][-1]["last_id"])


async def test_a_device_that_missed_deliveries_is_told_once(app: App, uid: str) -> None:
    await connect(app, uid, ago(60_000))
    before = await app.metric('emqx_im_syncs_total{reason="dropped"}')
    missed = [drop(app, uid, reason="expired") for _ in range(20)]
    await asyncio.gather(*missed, app.publish(f"single/{uid}", {"id": "missed"}, new_uid()))
    assert await told(app, uid) == {"head": await head(app, uid), "reason": "dropped"}
    assert await app.metric('emqx_im_syncs_total{reason="dropped"}') == before + 1
    await syncs(app)
    assert len(app.emqx.told(uid, "im.sync")) == 1
    await drop(app, uid)

    async def again() -> bool:
        return len(app.emqx.told(uid, "im.sync")) == 2

    await until(again, 20)


@pytest.mark.parametrize(
    ("device", "changed"),
    [
        ("tablet", {}),
        ("phone", {"from_username": "undefined", "from_clientid": "http_api"}),
        ("phone", {"from_username": ..., "from_clientid": ...}),
        ("phone", {"username": "undefined"}),
        ("phone", {"username": "ops"}),
    ],
    ids=["a device that is away", "the service's own", "nobody's", "no user's", "a tool's"],
)
async def test_of_other_drops_nobody_is_told(app: App, uid: str, device: str, changed: dict[str, Any]) -> None:
    """Told to a device that is away, it would take the place of a message; told of itself, it would never end."""
    await connect(app, uid, ago(60_000))
    body = {**recorded("delivery_dropped")[0], "clientid": f"{uid}-{device}", "username": uid, **changed}
    before = await app.metric('emqx_im_broker_deliveries_dropped_total{reason="queue_full"}')
    sent = {name: value for name, value in body.items() if value is not ...}
    assert (await app.hook("client", {"hook": "client", **sent})).status == 204
    await syncs(app)
    assert app.emqx.told(uid, "im.sync") == []
    assert await app.metric('emqx_im_broker_deliveries_dropped_total{reason="queue_full"}') == before + 2


async def test_a_dropped_copy_of_trusted_sending_is_a_users_message(app: App, uid: str) -> None:
    await connect(app, uid, ago(60_000))
    await drop(app, uid, from_username="undefined", from_clientid="emqx_im_deliver")
    assert (await told(app, uid))["reason"] == "dropped"


async def test_one_process_tells_for_all(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app, connection.connect(own_redis.url) as redis:
        await connect(app, uid, ago(60_000))
        assert await NotificationClaims(redis).claim([int(uid)], 600_000) == [int(uid)], "as another process does"
        await drop(app, uid)
        await syncs(app)
        assert app.emqx.told(uid, "im.sync") == []
        await redis.delete(keys.SYNC_TOLD + uid.encode())
        await drop(app, uid)
        await told(app, uid)


async def test_who_connected_before_a_late_message_was_stored_is_told(app: App, uid: str) -> None:
    sender, there_before = new_uid(), new_uid()
    received = ago(10_000)
    await connect(app, uid, received - 1, "desk")
    await connect(app, uid, received + 1, "phone")
    await connect(app, sender, received + 1, "tablet")
    await connect(app, there_before, received)
    for receiver in (there_before, uid):
        await app.publish(f"single/{receiver}", {"id": "late"}, sender, publish_received_at=received)
    assert await told(app, uid) == {"head": await head(app, uid), "reason": "late"}
    assert (await told(app, sender))["reason"] == "late"
    await syncs(app)
    assert app.emqx.told(there_before, "im.sync") == []


@pytest.mark.parametrize("kind", ["write", "read", "tag", "global"])
async def test_so_are_those_who_share_it(app: App, kind: str) -> None:
    owner, came, was_there, away, stranger = (new_uid() for _ in range(5))
    topic, sender = "business/global", "ops"
    if kind == "tag":
        tag, topic = f"late-{came}", f"business/tag_late-{came}"
        assert (await app.admin("PUT", f"/tags/{tag}", json={"title": "late"})).status == 204
        holders = {"add": [came, was_there, away], "source": "manual"}
        assert (await app.admin("POST", f"/tags/{tag}/users", json=holders)).status == 200
    elif kind != "global":
        topic, sender = f"group/{await app.group(owner, came, was_there, away, mode=kind)}", owner
    received = ago(10_000)
    await connect(app, came, received + 1)
    await connect(app, was_there, received)
    await connect(app, stranger, received + 1)
    answer = await app.publish(topic, {"id": f"late-{kind}-{came}"}, sender, publish_received_at=received)
    assert answer.status == 204, answer.raw
    assert await told(app, came) == {"head": await head(app, came), "reason": "late"}
    if kind == "global":
        await told(app, stranger)
    await syncs(app)
    assert app.emqx.told(was_there, "im.sync") == []
    assert app.emqx.told(away, "im.sync") == []
    assert kind == "global" or app.emqx.told(stranger, "im.sync") == []


async def test_a_message_in_time_tells_nobody(app: App, uid: str) -> None:
    received = ago(100)
    await connect(app, uid, received + 1)
    await app.publish(f"single/{uid}", {"id": "in time"}, new_uid(), publish_received_at=received)
    await syncs(app)
    assert app.emqx.told(uid, "im.sync") == []


async def test_a_message_that_waited_for_redis_is_late(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app, connection.connect(own_redis.url) as redis:
        await connect(app, new_uid(), ago(0))
        await app.publish(f"single/{new_uid()}", {"id": "before"}, new_uid())
        await redis.client_pause(1400, all=False)
        received = ago(0)
        stored, connected = await asyncio.gather(
            app.publish(f"single/{uid}", {"id": "late"}, new_uid(), publish_received_at=received),
            app.hook("client", {**recorded("client_connected")[0], "username": uid, "connected_at": received + 100}),
        )
        assert (stored.status, connected.status) == (204, 204)
        assert await told(app, uid) == {"head": await head(app, uid), "reason": "late"}
