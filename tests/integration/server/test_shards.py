"""The service on several shards: it starts with the number of shards that the store has, and with no other."""

import time
from pathlib import Path

import pytest

from hooks.doctor import CheckState, stores
from hooks.setting_sources import SettingsError
from store.redis.connection import connect as redis_client
from tests.cluster import TestCluster, slot_of
from tests.integration.app import App, new_uid_of, running_app, until
from tests.integration.messaging.test_sync import connect, drop, head, told
from tests.integration.served import Served
from tests.servers import RedisServer, program

SHARDS = 3
SENDER = "77"


def users() -> list[str]:
    """Returns a user of each shard, whom no other test knows."""
    return [new_uid_of(shard, SHARDS) for shard in range(SHARDS)]


async def ids(app: App, uid: str) -> list[str]:
    return [each["id"] for each in await app.messages(uid)]


async def archived(app: App) -> bool:
    return bool((await app.request("GET", "/readyz")).json["archive"].get("outbox_length") == 0)


async def ready(app: App) -> bool:
    return (await app.request("GET", "/readyz")).status == 200


async def empty(server: RedisServer) -> None:
    async with redis_client(server.url) as redis:
        await redis.flushall()


async def test_a_store_that_was_emptied_is_rebuilt_on_all_shards(own_redis: RedisServer, tmp_path: Path) -> None:
    uids = users()
    async with running_app(own_redis.url, tmp_path, shards=SHARDS) as app:
        for uid in uids:
            await app.connect(uid)
            assert (await app.publish(f"single/{uid}", {"id": "kept"}, SENDER)).status == 204
        await until(lambda: archived(app))
        await empty(own_redis)
        await until(lambda: ready(app), 30)
        assert [await ids(app, uid) for uid in uids] == [["kept"]] * SHARDS
        assert await app.metric('emqx_im_shard_gates_total{outcome="rebuilt",shard="0"}') == 1


@pytest.mark.parametrize(("has", "is_given", "emptied"), [(1, 3, False), (3, 2, False), (3, 1, True)])
async def test_it_does_not_start_with_another_number(
    own_redis: RedisServer, tmp_path: Path, has: int, is_given: int, emptied: bool
) -> None:
    async with running_app(own_redis.url, tmp_path, shards=has) as app:
        assert (await app.publish("single/1001", {"id": "kept"})).status == 204
        await until(lambda: archived(app))
    if emptied:
        await empty(own_redis)
    with pytest.raises(SettingsError, match=f"IM_SHARDS: .* has {has} shard.*emqx-im reshard --shards {is_given}"):
        async with running_app(own_redis.url, tmp_path, shards=is_given):
            pass
    async with running_app(own_redis.url, tmp_path, shards=has) as app:
        assert await ids(app, "1001") == ["kept"]


async def test_the_command_says_so_in_one_line(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path / "app"):
        pass
    served = Served(tmp_path / "served", own_redis.url, shards=3)
    try:
        assert await served.ended() == 1
        assert "IM_SHARDS: the store has 1 shard by its Redis" in served.log.splitlines()[-1]
    finally:
        served.kill()


async def test_users_of_all_shards_are_told_how_far_to_pull(own_redis: RedisServer, tmp_path: Path) -> None:
    uids = users()
    async with running_app(own_redis.url, tmp_path, shards=SHARDS) as app:
        for uid in uids:
            await connect(app, uid, time.time_ns() // 1_000_000 - 60_000)
            assert (await app.publish(f"single/{uid}", {"id": "missed"})).status == 204
            await drop(app, uid)
        for uid in uids:
            assert await told(app, uid) == {"head": await head(app, uid), "reason": "dropped"}


async def test_a_shard_that_is_away_is_named_and_all_others_are_served(tmp_path: Path) -> None:
    uids = users()
    with TestCluster(tmp_path / "cluster", program("redis-server"), replicas=0).started() as cluster:
        async with running_app(cluster.url, tmp_path, shards=SHARDS) as app:
            node = cluster.owner(slot_of(1, SHARDS))
            node.kill()

            async def state(of: str) -> bool:
                answer = await app.request("GET", "/readyz")
                assert answer.status == 200
                states = {each["shard"]: each["state"] for each in answer.json["shards"]}
                assert states[2] == "ok"
                return bool(states[1] == of)

            await until(lambda: state("away"))
            for shard in (0, 2):
                assert (await app.publish(f"single/{uids[shard]}", {"id": "served"}, SENDER)).status == 204
                assert await ids(app, uids[shard]) == ["served"]
            assert (await app.publish(f"single/{uids[1]}", {"id": "waits"}, SENDER)).status == 503
            assert (await app.pull(uids[1])).status == 503
            assert await app.metric('emqx_im_shard_up{shard="1"}') == 0
            assert await app.metric('emqx_im_shard_up{shard="2"}') == 1
            assert await app.metric('emqx_im_shard_away{shard="1"}') == 0
            assert await app.metric("emqx_im_redis_up") == 1
            assert await app.metric('emqx_im_link_entries{shard="1"}') == 1
            assert await app.metric('emqx_im_link_age_seconds{shard="1"}') > 0
            found = await stores.redis(cluster.url, SHARDS)
            assert [each.state for each in found if each.subject == "shard 1"] == [CheckState.FAIL]

            async def given_up() -> bool:
                return await app.metric('emqx_im_shard_away{shard="1"}') == 1

            await until(given_up, 30)
            node.start()
            await until(lambda: state("ok"), 60)

            async def arrived() -> bool:
                answer = await app.publish(f"single/{uids[1]}", {"id": "waits"}, SENDER)
                return answer.status == 204 and (await app.pull(uids[1])).status == 200

            await until(arrived, 30)
            assert await ids(app, uids[1]) == ["waits"]
            assert await app.metric('emqx_im_link_age_seconds{shard="1"}') == 0
            assert await app.metric('emqx_im_shard_away{shard="1"}') == 0
            assert await app.metric('emqx_im_shard_gates_total{outcome="lacked",shard="1"}') == 1
            assert await app.metric('emqx_im_shard_gates_total{outcome="rebuilt",shard="1"}') == 0
