"""Presence against EMQX's list of clients: by the service itself, and by hand."""

import time
from pathlib import Path
from typing import Any

import pytest

from store.presence.presence import Device, Presence
from store.redis import keys
from store.redis.client import RedisClient
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import EmqxApi, Session, running_emqx_api
from tests.integration.timelines.test_dormant_users import command
from tests.servers import RedisServer

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

AT = time.time_ns() // 1_000_000 - 60_000


async def online(app: App, *uids: str) -> dict[str, dict[str, int]]:
    """Clientid to `connected_at` by user."""
    users = (await app.admin("GET", f"/presence?uid={','.join(uids)}")).json["users"]
    return {uid: {each["clientid"]: each["connected_at"] for each in user["devices"]} for uid, user in users.items()}


def listed(emqx: EmqxApi, uid: str, device: str, at: int = AT, *, connected: bool = True) -> str:
    clientid = f"{uid}-{device}"
    emqx.sessions[clientid] = Session(uid, connected=connected, connected_at=at)
    return clientid


async def reconciled(app: App, outcome: str = "done") -> float:
    return await app.metric(f'emqx_im_reconciles_total{{outcome="{outcome}"}}')


async def drift(app: App, kind: str) -> float:
    return await app.metric(f'emqx_im_presence_drift_total{{kind="{kind}"}}')


async def test_at_start_and_on_a_timer(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> None:
    """A node died while nobody ran; another one later. Neither told anybody."""
    dead, alive, away, moved = (new_uid() for _ in range(4))
    await redis.mset({keys.EPOCH: "test", keys.CLOCK: 1})
    stale = [Device(int(dead), f"{dead}-phone", AT), Device(int(away), f"{away}-phone", AT)]
    await Presence(redis).connected(*stale, Device(int(moved), f"{moved}-phone", AT - 5000))
    async with running_app(redis_server.url, tmp_path, reconcile_seconds=1) as app:
        listed(app.emqx, "ops", "tool")
        listed(app.emqx, away, "phone", connected=False)
        phone = listed(app.emqx, alive, "phone")
        desk = listed(app.emqx, alive, "desk", AT + 1)
        newer = listed(app.emqx, moved, "phone")
        app.emqx.lists_all = True
        await until(lambda: reconciled(app))
        assert await online(app, dead, alive, away, moved) == {
            **{dead: {}, away: {}},
            **{alive: {phone: AT, desk: AT + 1}, moved: {newer: AT}},
        }
        assert (await app.admin("GET", "/presence")).json == {"online_users": 2, "online_devices": 3}
        assert (await drift(app, "missing"), await drift(app, "stale")) == (2, 2)

        del app.emqx.sessions[phone]

        async def noticed() -> bool:
            return await online(app, alive) == {alive: {desk: AT + 1}}

        await until(noticed)
        assert (await drift(app, "missing"), await drift(app, "stale")) == (2, 3)


async def test_an_emptied_redis_has_presence_again(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    uid = new_uid()
    async with running_app(redis_server.url, tmp_path, reconcile_seconds=5) as app:
        app.emqx.lists_all = True
        clientid = listed(app.emqx, uid, "phone")

        async def there() -> bool:
            return await online(app, uid) == {uid: {clientid: AT}}

        await until(there)
        await redis.flushall()
        await until(there, 20)


async def test_a_broker_that_does_not_list_changes_nothing(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    uid = new_uid()
    async with running_app(redis_server.url, tmp_path, reconcile_seconds=1) as app:
        clientid = await app.connect(uid)
        at = app.emqx.sessions.pop(clientid).connected_at

        async def failed_again(before: float) -> bool:
            return await reconciled(app, "failed") > before + 1

        before = await reconciled(app, "failed")
        await until(lambda: failed_again(before))
        assert await online(app, uid) == {uid: {clientid: at}}
        assert await reconciled(app) == 0


async def test_one_process_reconciles_for_all(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> None:
    async with running_app(redis_server.url, tmp_path, reconcile_seconds=1) as app:

        async def taken() -> bool:
            return bool(await redis.set(keys.RECONCILE_LOCK, "another's", nx=True, ex=60))

        await until(taken)
        app.emqx.lists_all = True
        before = len(app.emqx.requests)
        async with running_emqx_api() as emqx:
            status, _, errors = await by_hand(redis_server, tmp_path, emqx)
        assert (status, errors) == (1, "emqx-im: another process is reconciling\n")
        assert not [each for each in app.emqx.requests[before:] if each.path.endswith("clients_v2")]
        await redis.delete(keys.RECONCILE_LOCK)
        await until(lambda: reconciled(app))


async def by_hand(redis: RedisServer, directory: Path, emqx: EmqxApi, **settings: Any) -> tuple[int, str, str]:
    given = {"emqx_api_url": emqx.url, "emqx_api_key": "key", **settings}
    return await command(directory, redis.url, "reconcile", **given)


async def test_by_hand(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> None:
    await redis.mset({keys.EPOCH: "test", keys.CLOCK: 1})
    presence = Presence(redis)
    kept, stale, missing = Device(1, "1-phone", AT), Device(2, "2-phone", AT), Device(3, "3-phone", AT)
    await presence.connected(kept, stale)
    async with running_emqx_api() as emqx:
        for device in (kept, missing):
            listed(emqx, str(device.uid), "phone")
        status, output, errors = await by_hand(redis_server, tmp_path, emqx)
        assert (status, output) == (1, "")
        assert errors.startswith("emqx-im: IM_EMQX_API_URL: 500: ")
        assert await presence.counts() == (2, 2)
        emqx.lists_all = True
        status, output, errors = await by_hand(redis_server, tmp_path, emqx)
        assert (status, errors.strip()) == (0, "")
        assert output == "2 devices are connected; 1 were missing and 1 stale in presence\n"
        assert await presence.devices([1, 2, 3]) == {1: {"1-phone": AT}, 2: {}, 3: {"3-phone": AT}}
        status, output, _ = await by_hand(redis_server, tmp_path, emqx)
        assert (status, output) == (0, "2 devices are connected; 0 were missing and 0 stale in presence\n")
        await redis.flushall()
        status, _, errors = await by_hand(redis_server, tmp_path, emqx)
        assert (status, errors.startswith("emqx-im: IM_REDIS_URL: ")) == (1, True)
    status, _, errors = await command(tmp_path, redis_server.url, "reconcile")
    assert (status, errors) == (1, "emqx-im: IM_EMQX_API_URL: required, to ask EMQX which clients are connected\n")


async def test_many_users_are_asked_in_one_request(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Only those who are online cost a look at their devices."""
    dense, sparse = range(1, 9_001), range(2**53 - 1_000_000, 2**53, 1_000)
    uids = [*dense, *sparse]
    async with running_app(redis_server.url, tmp_path) as app:
        here = [uids[0], uids[4_095], uids[4_096], uids[8_999], uids[-1]]
        await Presence(redis).connected(*(Device(uid, f"{uid}-phone", AT) for uid in here))
        await redis.config_resetstat()
        answer = await app.admin("GET", f"/presence?uid={','.join(map(str, uids))}")
        assert answer.status == 200, answer.raw
        users = answer.json["users"]
        assert list(users) == list(map(str, uids))
        assert [int(uid) for uid, user in users.items() if user["online"]] == here
        commands = await redis.info("commandstats")
        # Workers of the service may have asked for something else meanwhile.
        assert len(here) <= commands["cmdstat_hgetall"]["calls"] < 2 * len(here)
        too_many = await app.admin("GET", f"/presence?uid={','.join(map(str, [*uids, 9_001]))}")
        assert (too_many.status, too_many.code) == (400, "bad_argument")
