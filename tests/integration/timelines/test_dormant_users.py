"""Users who were away for long, and a store put back by hand: the commands, and what the service does itself."""

import asyncio
import itertools
import os
import sys
from pathlib import Path

import pytest

from store.redis import keys
from store.redis.client import RedisClient
from tests.integration.app import SECRETS, App, new_uid, running_app, until
from tests.integration.inboxes import ids_in, inboxes_of
from tests.servers import RedisServer

DAY_MS = 86_400_000

_numbers = itertools.count()


async def command(directory: Path, redis_url: str, *arguments: str, **settings: object) -> tuple[int, str, str]:
    """Exit status, output and errors of an `emqx-im` command beside an app in `directory`."""
    given = {"redis_url": redis_url, "archive_url": f"sqlite:///{directory / 'archive.db'}", **SECRETS, **settings}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IM_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hooks.cli", *arguments),
        env=environment | {f"IM_{name.upper()}": str(value) for name, value in given.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def last_seen(redis: RedisClient, uid: str, days_ago: float) -> None:
    now = float(await redis.zscore(keys.SEEN, uid) or 0)
    await redis.zadd(keys.SEEN, {uid: now - days_ago * DAY_MS})


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
async def test_a_dormant_user_leaves_redis_and_finds_everything_on_return(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    url = redis_server.url
    async with running_app(url, tmp_path) as app:
        away, friend = new_uid(), new_uid()
        assert await ids(app, away) == await ids(app, friend) == []
        before = [await said(app, friend, away) for _ in range(3)]
        assert await ids(app, away) == before
        await ids(app, friend)
        await last_seen(redis, away, 31)

        status, output, errors = await command(tmp_path, url, "sweep")
        assert (status, errors.strip()) == (0, "")
        assert output.startswith("1 users examined, 1 made dormant, 3 messages and ")
        assert await ids_in(redis, int(away)) == []

        meanwhile = [await said(app, friend, away) for _ in range(2)]
        assert await ids_in(redis, int(away)) == [], "a dormant user costs nothing"
        assert await ids(app, away) == before + meanwhile
        after = await said(app, friend, away)
        assert len(await ids_in(redis, int(away))) == 1
        assert await ids(app, away) == [*before, *meanwhile, after]
        assert await ids(app, friend) == [*before, *meanwhile, after], "the sender is not dormant"


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
async def test_a_user_with_a_device_online_is_not_made_dormant(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    url = redis_server.url
    await redis.set(keys.SWEEP_LOCK, "the service has swept")
    async with running_app(url, tmp_path) as app:
        uid = new_uid()
        await app.connect(uid)
        await last_seen(redis, uid, 31)
        assert (await command(tmp_path, url, "sweep"))[1].startswith("1 users examined, 0 made dormant")
        assert (await command(tmp_path, url, "sweep"))[1].startswith("0 users examined")


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
async def test_one_process_sweeps_each_hour(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> None:
    url = redis_server.url
    async with running_app(url, tmp_path) as app:
        away, other = new_uid(), new_uid()
        await ids(app, away)
        await last_seen(redis, away, 31)
        await until(lambda: redis.exists(keys.SWEPT))
        await redis.delete(keys.SWEPT)
        async with running_app(url, tmp_path):
            await until(lambda: dormant(redis, away))
            await until(lambda: redis.exists(keys.SWEPT))
        swept = await redis.get(keys.SWEPT)
        await ids(app, other)
        await last_seen(redis, other, 31)
        async with running_app(url, tmp_path):
            assert not await dormant(redis, other)
            assert await redis.get(keys.SWEPT) == swept


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
async def test_rebuild_by_hand(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> None:
    url = redis_server.url
    sender, receiver = new_uid(), new_uid()
    async with running_app(url, tmp_path) as app:
        sent = [await said(app, sender, receiver) for _ in range(3)]
        await until(lambda: archived(redis))
    status, _, errors = await command(tmp_path, url, "rebuild")
    assert (status, errors.count("\n")) == (1, 1)
    assert "--force" in errors
    clock = int(await redis.get(keys.CLOCK) or 0)
    for arguments in (("rebuild", "--force"), ("rebuild",)):
        if arguments == ("rebuild",):
            await redis.flushall()
        epoch = await redis.get(keys.EPOCH)
        status, output, errors = await command(tmp_path, url, *arguments)
        assert (status, errors.strip()) == (0, ""), errors
        assert output.startswith("3 messages were restored; the new epoch is ")
        assert await redis.get(keys.EPOCH) != epoch
        assert int(await redis.get(keys.CLOCK) or 0) > clock
    async with running_app(url, tmp_path) as app:
        assert await ids(app, receiver) == sent


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
async def test_a_window_that_was_raised_is_put_back(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    url = redis_server.url
    sender, receiver = new_uid(), new_uid()
    async with running_app(url, tmp_path, retention_days=1) as app:
        assert await ids(app, receiver) == await ids(app, sender) == []
        sent = [await said(app, sender, receiver) for _ in range(3)]
        await until(lambda: archived(redis))
    # As it is when the day has passed.
    await redis.delete(*await inboxes_of(redis, int(receiver)))
    for days, found, told in ((1, [], False), (0.5, [], False), (1, sent, True), (1, sent, False)):
        epoch = await redis.get(keys.EPOCH)
        async with running_app(url, tmp_path, retention_days=days) as app:
            assert await ids(app, receiver) == found
            assert (await redis.get(keys.EPOCH) != epoch) == told


async def said(app: App, sender: str, receiver: str) -> str:
    """Sends a message that is stored; its id."""
    client_id = f"said-{next(_numbers)}"
    answer = await app.publish(f"single/{receiver}", {"id": client_id}, sender)
    assert answer.status == 204
    return client_id


async def ids(app: App, uid: str) -> list[str]:
    """Returns what a device that starts from nothing pulls."""
    return [message["id"] for message in await app.messages(uid)]


async def dormant(redis: RedisClient, uid: str) -> bool:
    return bool(await redis.hexists(keys.DORMANT, uid))


async def archived(redis: RedisClient) -> bool:
    return bool(await redis.xlen(keys.OUTBOX) == 0)
