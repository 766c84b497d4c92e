"""Redis has no room left: writes wait, what is read and what makes room goes on, and it comes back by itself."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from store.errors import StoreFull
from store.groups.groups import Limits
from store.operations.dead_letters import DeadLetters
from store.presence.presence import Device, Presence
from store.redis import keys, memory
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.memory import StoreMemory
from store.tags.tags import Tags
from store.timelines.sweep import Sweeper
from tests.integration.app import App, message_body, new_uid, running_app, until
from tests.integration.groups.conftest import WINDOW_US, Store
from tests.integration.server.test_outages import archived, held
from tests.recorded import recorded
from tests.servers import RedisServer

TEXT = "x" * 12_000


async def used(redis: RedisClient) -> int:
    return int((await redis.info("memory"))["used_memory"])


@asynccontextmanager
async def no_room(redis: RedisClient) -> AsyncIterator[None]:
    """Redis holds more than it may, and refuses by itself."""
    await redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)


@pytest.fixture
async def store(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Store]:
    running = Store(redis_server.url, tmp_path, Limits(500, 100_000, 500, 1000, 10**6, False))
    await running.start()
    yield running
    await running.stop()


async def test_at_maxmemory_redis_is_read_and_emptied_and_not_written(redis: RedisClient, store: Store) -> None:
    tags = Tags(store.redis, store.write_connection, window_us=WINDOW_US, repeat_seconds=3600, outbox_limit=2**30)
    presence, letters = Presence(store.redis), DeadLetters(store.redis)
    await tags.put("t", title="", followable=True)
    await store.create(2, 3)
    mids = [(await store.say(1)).mid for _ in range(3)]
    # Read long ago, so that the pull marks them seen anew, and trims.
    await redis.zadd(keys.SEEN, {"2": 1, "3": 1})
    device = Device(2, "2-phone", 1000)
    async with no_room(redis):
        for work in (
            lambda: store.say(1),
            lambda: store.say(1, -2),
            lambda: store.command("invite", 77, 1, members=[4]),
            lambda: store.command("leave", 77, 3),
            lambda: tags.put("u", title="", followable=True),
            lambda: tags.follow("t", 1, command_id="f"),
        ):
            with pytest.raises(StoreFull):
                await work()
        assert await store.texts(2) == mids
        assert (await presence.connected(device)).devices == 1
        await presence.disconnected(device)
        assert await presence.counts() == (0, 0)
        await letters.keep(source="archive", reason="archive_refused", message="", sender="1", body=b"{}")
        await store.archive_all()
        assert await store.outbox.size() == 0
        sweeper = Sweeper(store.redis, zombie_days=1, window_us=WINDOW_US, roaming_us=WINDOW_US)
        assert (await sweeper.sweep()).dormant == 1
    assert not (await store.say(1)).repeated, "nothing of what was refused is there"


async def store_full(app: App) -> bool:
    return await app.metric("emqx_im_store_full") == 1


async def writes_wait(app: App, uid: str) -> bool:
    page = (await app.pull(uid)).json
    assert page.get("writes_wait", True) is True
    return "writes_wait" in page


async def test_writes_stop_below_maxmemory_and_go_on_when_there_is_room(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LATELY_SECONDS", 0.1)
    receiver, sender = new_uid(), new_uid()
    async with connect(own_redis.url) as redis, running_app(own_redis.url, tmp_path) as app:
        for uid in (receiver, sender):
            await app.end(uid)
        assert (await app.publish(f"single/{receiver}", {"id": "first"}, sender)).status == 204
        assert not await writes_wait(app, receiver)
        await redis.config_set("maxmemory", await used(redis) + 40_000_000)
        archive = sqlite3.connect(tmp_path / "archive.db", isolation_level=None, timeout=0)
        with closing(archive) as other_writer:
            await until(lambda: held(other_writer))
            accepted = 1
            while (
                answer := await app.publish(f"single/{receiver}", {"id": f"m{accepted}", "body": TEXT}, sender)
            ).status == 204:
                accepted += 1
                assert accepted < 2000
            assert (answer.code, answer.headers["Retry-After"]) == ("store_full", "1")
            await until(lambda: store_full(app))
            await until(lambda: writes_wait(app, receiver))
            assert await app.metric("emqx_im_redis_maxmemory_bytes") > 40_000_000
            assert await app.metric("emqx_im_redis_memory_bytes") > 36_000_000

            for refused in (
                await app.hook("message", message_body(f"single/{receiver}", {"id": "late"}, sender)),
                await app.command("group/77/create", {"id": "late"}, sender),
                await app.publish("single/abc", {"id": "late"}, sender),
                await app.admin("PUT", "/tags/late", json={"title": "", "followable": True}),
            ):
                assert (refused.status, refused.code) == (503, "store_full"), refused
            ready = await app.request("GET", "/readyz")
            assert (ready.status, ready.code, ready.json["redis"]) == (503, "store_full", "full")
            assert (await app.request("GET", "/readyz/pulls")).status == 200
            assert len(await app.messages(receiver)) == accepted
            assert (await app.hook("client", recorded("client_connected")[0])).status == 204
        # The archive takes what waits for it, and that is room enough.
        await until(lambda: archived(app))

        async def again() -> bool:
            return (await app.publish(f"single/{receiver}", {"id": "last"}, sender)).status == 204

        await until(again)
        assert (await app.request("GET", "/readyz")).status == 200
        assert not await store_full(app)
        assert [each["id"] for each in await app.messages(receiver)][-1] == "last"

        async def writes_go_on() -> bool:
            return not await writes_wait(app, receiver)

        await until(writes_go_on)


async def test_a_store_that_was_full_a_moment_ago_may_be_so_again(redis: RedisClient) -> None:
    """Where the archive makes room for a few messages at a time, devices must not hear that all is well in between."""
    room = StoreMemory(redis, 0.9, outbox_limit=2**30)
    await room.look()
    assert not room.writes_wait
    async with no_room(redis):
        await room.look()
        assert room.writes_wait
    await room.look()
    assert not room.full
    assert room.writes_wait
