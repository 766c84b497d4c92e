"""When `im.ack` is told: at once where Redis syncs every write, else when the archive has the message."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from store.redis.connection import connect
from tests.integration.app import App, running_app, until
from tests.servers import RedisServer, program

pytestmark = pytest.mark.asyncio(loop_scope="session")

SETTLED = 0.5
"""Seconds in which `im.ack` would have come, several times over."""


@pytest.fixture
def lazy_redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", program("redis-server"), appendfsync="everysec")
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def archive_held(directory: Path) -> AsyncIterator[None]:
    """Prevents archiving inside the block."""
    other_writer = sqlite3.connect(directory / "archive.db", isolation_level=None, check_same_thread=False)
    with closing(other_writer):
        # In a thread: who writes now has to finish first, in this loop.
        await asyncio.to_thread(other_writer.execute, "BEGIN IMMEDIATE")
        yield


async def stored(app: App, uid: str, client_id: str) -> None:
    """Sends like the broker: again and again until it is done."""

    async def done() -> bool:
        return (await app.publish(f"single/{uid}", {"id": client_id, "ack": True}, uid)).status == 204

    await until(done)


async def acknowledged(app: App, uid: str) -> list[str]:
    return [each["body"]["id"] for each in app.emqx.told(uid) if each["type"] == "im.ack"]


async def until_acknowledged(app: App, uid: str) -> list[str]:
    return list(await until(lambda: acknowledged(app, uid)))


async def aof(app: App) -> Any:
    return (await app.request("GET", "/readyz")).json["aof"]


async def until_aof(app: App, expected: str) -> None:
    async def found() -> bool:
        return bool(await aof(app) == expected)

    await until(found)


async def test_synced_at_every_write(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app:
        assert await aof(app) == "always"
        async with archive_held(tmp_path):
            await stored(app, uid, "x")
            assert await until_acknowledged(app, uid) == ["x"]


async def test_synced_every_second(lazy_redis: RedisServer, tmp_path: Path, uid: str, other_uid: str) -> None:
    async with running_app(lazy_redis.url, tmp_path) as app:
        assert await aof(app) == "everysec"
        await app.end(uid)
        async with archive_held(tmp_path):
            await stored(app, uid, "x")
            await stored(app, other_uid, "y")
            assert len(await app.messages(uid)) == 1, "stored, pulled and answered all the same"
            await asyncio.sleep(SETTLED)
            assert await acknowledged(app, uid) == []
        assert await until_acknowledged(app, uid) == ["x"]
        assert await until_acknowledged(app, other_uid) == ["y"]
        await stored(app, uid, "x")

        async def told_again() -> bool:
            return await acknowledged(app, uid) == ["x", "x"]

        await until(told_again)


async def test_what_waited_when_redis_was_started_again_is_not_told(
    lazy_redis: RedisServer, tmp_path: Path, uid: str
) -> None:
    """It may be gone: the sender has to ask again."""
    async with running_app(lazy_redis.url, tmp_path) as app:
        async with archive_held(tmp_path):
            await stored(app, uid, "x")
            lazy_redis.kill()
            lazy_redis.start()
            await stored(app, uid, "y")

            async def dropped() -> bool:
                return bool(await app.metric('emqx_im_control_messages_dropped_total{reason="not_durable"}'))

            await until(dropped)
        await stored(app, uid, "z")
        await until(lambda: acknowledged(app, uid))
        assert "x" not in await acknowledged(app, uid)
        await stored(app, uid, "x")

        async def told() -> bool:
            return "x" in await acknowledged(app, uid)

        await until(told)


async def test_a_change_of_the_setting_is_noticed(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with running_app(own_redis.url, tmp_path) as app, connect(own_redis.url) as redis:
        for option, value, expected in [
            ("appendfsync", "no", "no"),
            ("appendonly", "no", "off"),
        ]:
            await redis.config_set(option, value)
            await until_aof(app, expected)
        async with archive_held(tmp_path):
            await stored(app, uid, "x")
            await asyncio.sleep(SETTLED)
            assert await acknowledged(app, uid) == []
            await redis.config_set("appendfsync", "always")
            await redis.config_set("appendonly", "yes")
            await until_aof(app, "always")
            assert await until_acknowledged(app, uid) == ["x"]


async def test_a_server_that_does_not_tell_is_not_trusted(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with connect(own_redis.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "im", "on", ">secret", "~*", "&*", "+@all", "-config")
    url = own_redis.url.replace("redis://", "redis://im:secret@")
    async with running_app(url, tmp_path) as app:
        assert await aof(app) == "unknown"
        async with archive_held(tmp_path):
            await stored(app, uid, "x")
            await asyncio.sleep(SETTLED)
            assert await acknowledged(app, uid) == []
        assert await until_acknowledged(app, uid) == ["x"]
