"""Denials that nobody decided: EMQX counts such questions, and is made to forget what it kept of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hooks.messaging import cache_watch
from store.redis import keys
from store.redis.connection import connect
from tests.integration.app import App, new_uid, running_app, until
from tests.integration.emqx.sessions import Authorizer, EmqxApi
from tests.recorded import recorded
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOOKS = "/api/v5/authorization/sources/http/status"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"_LOOK_SECONDS": 0.4, "_AGAIN_SECONDS": 0.1, "_CACHED_SECONDS": 0.3}.items():
        monkeypatch.setattr(cache_watch, name, seconds)


@pytest_asyncio.fixture(loop_scope="session")
async def watching(own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[App]:
    """A service that has looked, and found all well."""
    async with running_app(own_redis.url, tmp_path) as running:
        await dropped(running, 1)
        await looked(running)
        yield running


def looks(emqx: EmqxApi) -> int:
    return sum(request.path == LOOKS for request in emqx.requests)


async def looked(app: App, times: int = 4) -> None:
    """Returns once EMQX was asked so many times more what it counts: enough for a drop that is due."""
    before = looks(app.emqx)

    async def enough() -> bool:
        return looks(app.emqx) >= before + times

    await until(enough, 30)


async def dropped(app: App, times: int) -> None:
    async def so_often() -> bool:
        return app.emqx.caches_dropped == times

    await until(so_often, 30)


async def told_to_subscribe(app: App, uid: str, times: int = 1) -> None:
    async def enough() -> bool:
        return len(app.emqx.told(uid, "im.subscribe")) >= times

    await until(enough, 30)


def node(app: App) -> Authorizer:
    return app.emqx.nodes["emqx@10.0.0.2"]


@pytest.mark.parametrize("answer", ["nomatch", "ignore"])
async def test_an_undecided_question_on_any_node_makes_all_be_forgotten_once(watching: App, answer: str) -> None:
    node(watching).asked(answer)
    await dropped(watching, 2)
    await looked(watching)
    assert watching.emqx.caches_dropped == 2
    assert await watching.metric("emqx_im_undecided_questions_total") == 1
    assert await watching.metric('emqx_im_permission_caches_dropped_total{outcome="done"}') == 2


async def test_decided_questions_change_nothing(watching: App) -> None:
    for answer in ("allow", "deny"):
        for _ in range(100):
            node(watching).asked(answer)
    await looked(watching)
    assert watching.emqx.caches_dropped == 1


async def test_nothing_is_forgotten_while_the_broker_cannot_ask(watching: App) -> None:
    """The permissions that it rightly keeps would go, too, and could not be asked for."""
    node(watching).status = "disconnected"
    node(watching).asked("ignore")
    await looked(watching, 6)
    assert watching.emqx.caches_dropped == 1
    node(watching).status = "connected"
    await dropped(watching, 2)


async def test_nothing_is_forgotten_while_questions_go_undecided(
    watching: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> None:
        while True:
            node(watching).asked("ignore")
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    await looked(watching, 6)
    assert watching.emqx.caches_dropped == 1
    monkeypatch.setattr(cache_watch, "_RISING_MS", 2000)  # but not for ever
    await dropped(watching, 2)
    monkeypatch.setattr(cache_watch, "_RISING_MS", 600_000)
    asking.cancel()
    await dropped(watching, 3)


async def test_drops_in_a_row_are_few(watching: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_watch, "_BURST", 1)
    for count in range(3):
        node(watching).asked("ignore")
        await looked(watching, 4)
        assert watching.emqx.caches_dropped <= 2, count
    monkeypatch.setattr(cache_watch, "_DROPS_A_MS", 1.0)
    await looked(watching, 4)
    assert watching.emqx.caches_dropped == 3


async def test_a_broker_that_does_not_answer_is_asked_until_it_does(watching: App) -> None:
    node(watching).asked("ignore")
    watching.emqx.status = 503
    await looked(watching, 2)
    watching.emqx.status = 200
    await dropped(watching, 2)


async def test_a_node_that_was_started_is_made_to_forget(watching: App) -> None:
    for _ in range(5):
        node(watching).asked()
    await looked(watching)
    assert watching.emqx.caches_dropped == 1
    watching.emqx.nodes["emqx@10.0.0.2"] = Authorizer()
    await dropped(watching, 2)
    watching.emqx.nodes["emqx@10.0.0.3"] = Authorizer()
    await dropped(watching, 3)
    del watching.emqx.nodes["emqx@10.0.0.3"]
    await looked(watching)
    assert watching.emqx.caches_dropped == 3


async def test_a_restart_forgets_nothing_that_was_decided(own_redis: RedisServer, tmp_path: Path) -> None:
    async with connect(own_redis.url) as redis:
        async with running_app(own_redis.url, tmp_path) as app:
            await dropped(app, 1)
            await looked(app)
        async with running_app(own_redis.url, tmp_path) as app:
            await looked(app)
            assert app.emqx.caches_dropped == 0
        # While no process looked, a question went unanswered.
        async with running_app(own_redis.url, tmp_path) as app:
            node(app).asked("ignore")
            await dropped(app, 1)
        # Nobody knows what happened while Redis was lost.
        await redis.delete(keys.CACHES)
        async with running_app(own_redis.url, tmp_path) as app:
            await dropped(app, 1)


async def test_of_many_processes_one_looks(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path) as one, running_app(own_redis.url, tmp_path) as other:
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def four_times() -> bool:
            return looks(one.emqx) + looks(other.emqx) >= 8

        await until(four_times, 60)
        # Each once as it starts, and two for what may be dropped; then one of them, after as long as it rests.
        assert looks(one.emqx) + looks(other.emqx) <= 6 + (loop.time() - started) / cache_watch._LOOK_SECONDS


# Clients that were refused a subscription meanwhile


async def test_clients_that_connected_meanwhile_are_told_again_what_to_subscribe(watching: App) -> None:
    uid, before = new_uid(), new_uid()
    gid = await watching.group(uid)

    async def brought_to_the_broker() -> bool:
        return await watching.metric('emqx_im_permission_changes_total{outcome="granted"}') == 1

    await until(brought_to_the_broker)
    await watching.connect(uid)
    assert watching.emqx.told(uid, "im.subscribe") == []
    node(watching).asked("ignore")
    await told_to_subscribe(watching, uid)
    body = watching.emqx.told(uid, "im.subscribe")[0]["body"]
    assert f"group/{gid}" in [each["topic"] for each in body["topics"]]
    assert watching.emqx.caches_dropped == 2
    assert watching.emqx.told(before, "im.subscribe") == []


async def test_clients_that_could_not_be_judged_are_told_though_they_connected_long_ago(
    watching: App, own_redis: RedisServer
) -> None:
    uid = new_uid()
    topic = f"group/{new_uid()}"
    clientid = await watching.connect(uid)
    async with connect(own_redis.url) as redis:
        await redis.hset(keys.DEVICES_PREFIX + uid.encode(), clientid, 1)
    own_redis.hang()
    question = {"username": uid, "clientid": clientid, "action": "subscribe", "topic": topic, "qos": "1"}
    assert (await watching.hook("authz", {**recorded("authz")[0], **question})).status == 503
    node(watching).asked("ignore")
    own_redis.resume()
    await told_to_subscribe(watching, uid)
    assert watching.emqx.caches_dropped == 2


async def test_where_the_server_subscribes_it_does_so_again(own_redis: RedisServer, tmp_path: Path) -> None:
    async with running_app(own_redis.url, tmp_path, subscribe="server") as app:
        await looked(app)
        uid = new_uid()
        topic = f"group/{await app.group(uid)}"
        clientid = await app.connect(uid)
        node(app).asked("nomatch")

        async def subscribed() -> bool:
            return topic in app.emqx.sessions[clientid].topics

        await until(subscribed, 30)
