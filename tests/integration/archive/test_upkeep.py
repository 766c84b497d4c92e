"""Tests the upkeep of the tables, and the two commands, as processes."""

import asyncio
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from store.archive.archive import Archive, open_archive
from store.archive.tables.sql import migrations
from store.archive.upkeep import keep_up, put_in_order
from store.redis.client import RedisClient
from store.workers import Worker
from tests.integration.archive.outbox_writer import (
    assert_nothing_left,
    message,
    outbox_is_empty,
    put,
    rows,
    stored,
    until,
)
from tests.servers import RedisServer

DAY = 86_400_000_000
NOW = 1_763_900_000_000_000


async def test_what_no_pull_reaches_is_dropped(archive_url: str) -> None:
    archive = open_archive(archive_url)
    await put_in_order(archive, "month", 7.0, NOW - 100 * DAY)
    messages = [message(0)._replace(mid=NOW - days * DAY) for days in (100, 61, 1)]
    await archive.store_messages(messages)
    await put_in_order(archive, "year", 7.0, NOW)
    assert await stored(archive_url) == messages
    await put_in_order(archive, "month", 7.0, NOW)
    assert await stored(archive_url) == messages[1:]
    await archive.close()


async def test_a_clock_that_runs_ahead_drops_nothing(archive: Archive, archive_url: str) -> None:
    await archive.store_messages([message(0)])
    await put_in_order(archive, "week", 7.0, NOW + 400 * DAY)
    assert await stored(archive_url) == [message(0)]


async def test_many_old_rows_are_deleted(archive: Archive, archive_url: str) -> None:
    await archive.store_messages([message(number) for number in range(12_000)])
    await archive.keep_partitions(NOW)
    await archive.drop_messages(NOW + 60 * DAY)
    assert await stored(archive_url) == []


async def test_upkeep_migrates_and_stops_at_once(archive_url: str) -> None:
    archive = open_archive(archive_url)
    stop = asyncio.Event()
    running = asyncio.create_task(keep_up(archive, "week", 7.0, Worker("upkeep", stop)))

    async def migrated() -> bool:
        return not await archive.pending_migrations()

    await until(migrated)
    stop.set()
    await asyncio.wait_for(running, 5)
    await archive.close()


async def command(name: str, directory: Path, **settings: str) -> asyncio.subprocess.Process:
    """Ctrl-C reaches it even where the tests themselves run in the background, whose children would ignore it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IM_")} | settings
    root = Path(__file__).parents[3]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hooks.cli", name),
        cwd=directory,
        env=environment | {"PYTHONPATH": str(root)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


async def test_migrate_tells_what_it_does(archive_url: str, tmp_path: Path) -> None:
    process = await command("migrate", tmp_path, IM_ARCHIVE_URL=archive_url)
    output, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    lines = output.decode().splitlines()
    backend = "mysql" if archive_url.startswith("mysql") else "sqlite"
    names = [migration.name for migration in migrations(backend)]
    assert names[:2] == ["001_message", "002_block"]
    assert lines[: 2 * len(names)] == [f"{step}: {name}" for step in ("to apply", "applied") for name in names]
    assert sum(line.startswith("partition made: p") for line in lines) == (4 if "mysql" in archive_url else 0)
    process = await command("migrate", tmp_path, IM_ARCHIVE_URL=archive_url)
    assert await process.communicate() == (b"the archive is up to date\n", b"")
    assert await rows(archive_url, "SELECT COUNT(*) FROM message") == [(0,)]


async def test_migrate_names_the_setting_when_the_archive_is_away(tmp_path: Path) -> None:
    process = await command("migrate", tmp_path, IM_ARCHIVE_URL="mysql://root:secret@127.0.0.1:1/im")
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.startswith(b"emqx-im: IM_ARCHIVE_URL: ")
    assert error.count(b"\n") == 1
    assert b"secret" not in error


async def test_an_archiver_of_its_own_ends_at_sigterm(
    archive_url: str, live_redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    messages = [message(number) for number in range(500)]
    await put(live_redis, messages)
    process = await command("archive", tmp_path, IM_ARCHIVE_URL=archive_url, IM_REDIS_URL=redis_server.url)
    await until(lambda: outbox_is_empty(live_redis))
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
    assert time.monotonic() - begin < 5
    assert await stored(archive_url) == messages
    await assert_nothing_left(live_redis)
