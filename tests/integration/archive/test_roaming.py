"""A year of a user's messages by one chain of pulls: every one once and in order, whatever is made of it meanwhile."""

import asyncio
import contextlib
import os
import pty
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from store.archive.archive import Archive, open_archive
from store.archive.tables.months import DAY, month_of
from store.archive.upkeep import put_in_order
from store.errors import ArchiveAway
from store.record import Message
from store.redis.client import RedisClient
from tests.integration.archive.history import USER, WINDOW_US, YEAR_US, begin, chain, history, pages, puller, seen
from tests.integration.archive.outbox_writer import rows, stored, until
from tests.integration.archive.test_aggregate import age, aggregate_all, aggregator, fill
from tests.integration.archive.test_upkeep import command
from tests.servers import MariaServer, RedisServer


def clock() -> int:
    return time.time_ns() // 1000


async def test_two_years_of_messages_give_the_last_one(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    now = clock()
    messages = history(50_000, now)
    await fill(archive, messages)
    await begin(live_redis, archive)
    wanted = seen(messages, now - YEAR_US)
    assert len(wanted) > 15_000
    reader = puller(live_redis, archive)
    assert await chain(reader, [1000]) == wanted, "from rows"
    assert len(await aggregate_all(live_redis, archive)) >= 22
    assert await chain(reader, [1000]) == wanted, "rows and blocks side by side"
    await age(archive_url, 3601)
    await put_in_order(archive, "year", 7.0, clock())
    first = (await stored(archive_url))[0]
    assert month_of(first.mid).edge > now - WINDOW_US - DAY - 31 * DAY, "no rows but the last weeks'"
    assert await chain(reader, [1000]) == wanted, "from blocks"
    assert await chain(reader, [1, 999, 63, 64, 65, 333, 777]) == wanted
    cursor = wanted[len(wanted) // 3].mid
    assert await chain(reader, [200], cursor) == [message for message in wanted if message.mid > cursor]


async def test_a_month_is_switched_over_between_two_pages(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    """One month after every few pages, and its rows are dropped after a few more."""
    now = clock()
    messages = history(6000, now, 9)
    await fill(archive, messages)
    await begin(live_redis, archive)
    months = await aggregator(live_redis, archive).due(now)
    got: list[Message] = []
    number = 0
    async for page in pages(puller(live_redis, archive), [97, 101]):
        got += page
        number += 1
        if number % 4 == 0 and months:
            await aggregator(live_redis, archive).aggregate(months.pop(0))
        if number % 4 == 2:
            await age(archive_url, 3601)
            await put_in_order(archive, "year", 7.0, now)
    assert got == seen(messages)
    assert not months
    assert len(await stored(archive_url)) < len(messages)


async def test_pulls_go_on_while_months_are_aggregated_and_dropped(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    now = clock()
    messages = history(8000, now, 8)
    await fill(archive, messages)
    await begin(live_redis, archive)
    wanted = seen(messages)
    other = open_archive(archive_url)
    chains = 0

    async def pull(limit: int) -> None:
        nonlocal chains
        while not done.is_set():
            assert await chain(puller(live_redis, archive), [limit]) == wanted
            chains += 1

    def two_more(before: int) -> Callable[[], Awaitable[bool]]:
        async def reached() -> bool:
            return chains >= before + 2 or any(task.done() for task in pulling)

        return reached

    done = asyncio.Event()
    pulling = [asyncio.create_task(pull(limit)) for limit in (1000, 333)]
    for month in await aggregator(live_redis, other).due(now):
        await aggregator(live_redis, other).aggregate(month)
        await age(archive_url, 3601)
        await until(two_more(chains))
        await put_in_order(other, "year", 7.0, now)
    done.set()
    await asyncio.gather(*pulling)
    assert len(await stored(archive_url)) < len(messages) / 3
    await other.close()


async def test_without_the_archive_a_pull_within_the_window_goes_on(
    own_maria: MariaServer, live_redis: RedisClient
) -> None:
    await rows(own_maria.url("mysql"), "CREATE DATABASE im")
    archive = open_archive(own_maria.url("im"))
    await archive.migrate()
    now = clock()
    messages = history(3000, now, 6)
    await fill(archive, messages)
    await begin(live_redis, archive)
    await aggregate_all(live_redis, archive)
    wanted = seen(messages)
    reader = puller(live_redis, archive)
    assert await chain(reader, [500]) == wanted
    own_maria.kill()
    recent = now - 5 * DAY
    for _ in range(2):
        with pytest.raises(ArchiveAway):
            await reader.pull(int(USER), 0, 500)
        with pytest.raises(ArchiveAway):
            await reader.pull(int(USER), now - 20 * DAY, 500)
        assert await chain(reader, [500], recent) == seen(messages, recent)
    own_maria.start()
    assert await chain(reader, [500]) == wanted
    await archive.close()


async def test_the_command_says_what_it_made(
    archive: Archive, archive_url: str, live_redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = {"IM_ARCHIVE_URL": archive_url, "IM_REDIS_URL": redis_server.url, "IM_ROAMING": "quarter"}
    messages = history(2000, clock(), 4)
    await fill(archive, messages)
    process = await command("aggregate", tmp_path, **settings)
    output, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    lines = output.decode().splitlines()
    assert len(lines) >= 2
    assert lines[0].startswith(f"{month_of(messages[0].mid).label}: ")
    assert all(" messages in " in line and " blocks, " in line for line in lines)
    process = await command("aggregate", tmp_path, **settings)
    assert await process.communicate() == (b"no month is due\n", b"")
    process = await command("aggregate", tmp_path, **settings | {"IM_ROAMING": "month"})
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.startswith(b"nothing to do: IM_ROAMING=month")


@pytest.mark.parametrize("setting", ["IM_ARCHIVE_URL", "IM_REDIS_URL"])
async def test_the_command_names_what_is_away(setting: str, redis_server: RedisServer, tmp_path: Path) -> None:
    away = {"IM_ARCHIVE_URL": "mysql://root:secret@127.0.0.1:1/im", "IM_REDIS_URL": "redis://:secret@127.0.0.1:1"}
    settings = {"IM_ARCHIVE_URL": f"sqlite:///{tmp_path}/im.db", "IM_REDIS_URL": redis_server.url, "IM_ROAMING": "year"}
    archive = open_archive(settings["IM_ARCHIVE_URL"])
    await archive.migrate()
    await fill(archive, history(100, clock(), 4))
    await archive.close()
    process = await command("aggregate", tmp_path, **settings | {setting: away[setting]})
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.startswith(f"emqx-im: {setting}: ".encode())
    assert error.count(b"\n") == 1
    assert b"secret" not in error


async def test_the_command_may_be_interrupted(
    archive: Archive, archive_url: str, live_redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = {"IM_ARCHIVE_URL": archive_url, "IM_REDIS_URL": redis_server.url, "IM_ROAMING": "year"}
    messages = history(20_000, clock(), 12)
    await fill(archive, messages)
    await begin(live_redis, archive)
    process = await command("aggregate", tmp_path, **settings)
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    error = await process.stderr.read()
    assert await process.wait() == 1
    assert error == b"emqx-im: interrupted; run it again to continue\n"
    half_done = len(await archive.blocks.aggregated())
    process = await command("aggregate", tmp_path, **settings)
    output, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert half_done < len(await archive.blocks.aggregated()) == half_done + output.count(b"\n")
    assert await chain(puller(live_redis, archive), [1000]) == seen(messages)


async def test_progress_is_shown_on_a_terminal(
    archive: Archive, archive_url: str, live_redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> None:
    await fill(archive, history(1000, clock(), 3))
    terminal, end = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hooks.cli", "aggregate"),
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("IM_")},
            **{"IM_ARCHIVE_URL": archive_url, "IM_REDIS_URL": redis_server.url, "IM_ROAMING": "year"},
            **{"PYTHONPATH": str(Path(__file__).parents[3]), "TERM": "xterm", "COLUMNS": "100"},
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    shown, _ = await asyncio.gather(asyncio.to_thread(_shown, terminal), process.communicate())
    os.close(terminal)
    assert process.returncode == 0
    assert month_of(clock() - 80 * DAY).label in shown
    assert "━" in shown


def _shown(terminal: int) -> str:
    """Returns everything that is written to a terminal until nobody has it open."""
    shown = b""
    with contextlib.suppress(OSError):  # so the kernel says that it is closed
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    return shown.decode()
