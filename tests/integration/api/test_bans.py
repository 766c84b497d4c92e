"""Tests bans and kicks: what pulls say, what EMQX is told, and what outlasts the loss of either."""

import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Session
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_ban_ends_sessions_and_refuses_pulls_until_it_is_lifted(app: App) -> None:
    uid, other = new_uid(), new_uid()
    phone, laptop, stranger = await app.connect(uid), await app.connect(uid, "laptop"), await app.connect(other)
    assert (await app.pull(uid)).status == 200
    before = int(time.time() * 1000)
    banned = await app.admin("PUT", f"/users/{uid}/ban", json={"seconds": 3600, "reason": "spam <b>"})
    assert banned.status == 204
    assert phone not in app.emqx.sessions
    assert laptop not in app.emqx.sessions
    assert stranger in app.emqx.sessions
    listed = app.emqx.banned[uid]
    assert (listed["as"], listed["who"], listed["by"], listed["reason"]) == ("username", uid, "emqx-im", "spam <b>")
    refused = await app.pull(uid)
    assert (refused.status, refused.code) == (403, "banned")
    assert (await app.pull(other)).status == 200
    ban = (await app.admin("GET", f"/users/{uid}")).json["ban"]
    assert ban["reason"] == "spam <b>"
    assert before + 3_600_000 <= ban["until"] <= before + 3_660_000

    assert (await app.admin("DELETE", f"/users/{uid}/ban")).status == 204
    assert uid not in app.emqx.banned
    assert (await app.pull(uid)).status == 200
    assert (await app.admin("GET", f"/users/{uid}")).json["ban"] is None
    again = await app.admin("DELETE", f"/users/{uid}/ban")
    assert (again.status, again.code) == (404, "not_found")


async def test_a_ban_ends_by_itself_and_is_replaced_by_another(app: App) -> None:
    uid = new_uid()
    for seconds in (3600, 1):
        assert (await app.admin("PUT", f"/users/{uid}/ban", json={"seconds": seconds})).status == 204
    assert (await app.pull(uid)).code == "banned"

    async def over() -> bool:
        return (await app.pull(uid)).status == 200

    await until(over)
    assert (await app.admin("GET", f"/users/{uid}")).json["ban"] is None


async def test_bad_bans_change_nothing(app: App) -> None:
    uid = new_uid()
    for given in ({}, {"seconds": 0}, {"seconds": True}, {"seconds": 10**9}, {"seconds": 1, "reason": "r" * 257}):
        answer = await app.admin("PUT", f"/users/{uid}/ban", json=given)
        assert (answer.status, answer.code) == (400, "bad_argument")
    assert uid not in app.emqx.banned
    assert (await app.pull(uid)).status == 200


async def test_a_kick_ends_the_session_of_that_user_alone(app: App) -> None:
    uid, other = new_uid(), new_uid()
    phone, laptop = await app.connect(uid), await app.connect(uid, "laptop")
    of_other = await app.connect(other)
    assert (await app.admin("DELETE", f"/users/{uid}/devices/{phone}")).status == 204
    assert phone not in app.emqx.sessions
    assert laptop in app.emqx.sessions
    for clientid in (phone, of_other, "a%2Fb"):
        answer = await app.admin("DELETE", f"/users/{uid}/devices/{clientid}")
        assert (answer.status, answer.code) == (404, "not_found")
    assert of_other in app.emqx.sessions


async def test_a_ban_is_brought_to_emqx_once_it_answers(app: App) -> None:
    uid = new_uid()
    app.emqx.status = 503
    try:
        answer = await app.admin("PUT", f"/users/{uid}/ban", json={"seconds": 3600})
        assert (answer.status, answer.code) == (503, "broker_away")
        assert (await app.pull(uid)).code == "banned"
    finally:
        app.emqx.status = 200

    async def told() -> bool:
        return uid in app.emqx.banned

    await until(told, 20)
    kick = await app.admin("DELETE", f"/users/{uid}/devices/{uid}-phone")
    assert kick.status == 404


async def test_bans_outlast_the_loss_of_redis_and_of_emqxs_list(own_redis: RedisServer, tmp_path: Path) -> None:
    kept, lifted, short, foreign = new_uid(), new_uid(), new_uid(), new_uid()
    async with running_app(own_redis.url, tmp_path, reconcile_seconds=1) as app:
        app.emqx.lists_all = True
        app.emqx.banned[foreign] = {"as": "username", "who": foreign, "by": "somebody", "until": "infinity"}
        for uid, seconds in ((kept, 3600), (lifted, 3600), (short, 1)):
            assert (await app.admin("PUT", f"/users/{uid}/ban", json={"seconds": seconds})).status == 204
        assert (await app.admin("DELETE", f"/users/{lifted}/ban")).status == 204

        async def archived() -> bool:
            return bool((await app.request("GET", "/readyz")).json["archive"]["outbox_length"] == 0)

        await until(archived)

        async with Redis.from_url(own_redis.url) as redis:
            await redis.flushall()

        async def rebuilt() -> bool:
            return (await app.pull(kept)).status == 403

        await until(rebuilt, 20)
        assert (await app.pull(lifted)).status == 200

        async def short_is_over() -> bool:
            return (await app.pull(short)).status == 200

        await until(short_is_over)

        # EMQX has lost its list, and somebody logged in meanwhile; what is over in Redis goes from its list, too.
        stale = app.emqx.banned.pop(kept) | {"who": lifted}
        app.emqx.banned[lifted] = stale
        app.emqx.sessions[f"{kept}-phone"] = Session(kept)

        async def as_it_should_be() -> bool:
            return set(app.emqx.banned) - {short} == {kept, foreign} and f"{kept}-phone" not in app.emqx.sessions

        await until(as_it_should_be, 20)


async def test_without_emqxs_rest_api_nobody_is_banned(own_redis: RedisServer, tmp_path: Path) -> None:
    uid = new_uid()
    async with running_app(own_redis.url, tmp_path, emqx_api_url=None) as app:
        for method, path in (("PUT", "ban"), ("DELETE", "ban"), ("DELETE", f"devices/{uid}-phone")):
            answer = await app.admin(method, f"/users/{uid}/{path}", json={"seconds": 5})
            assert (answer.status, answer.code) == (503, "broker_away")
        assert (await app.pull(uid)).status == 200
