"""Implements `emqx-im sweep` and `emqx-im rebuild`, which work on Redis by hand or from a timer."""

import sys
from collections.abc import Awaitable, Callable

import typer
import uvloop
from rich.console import Console

from hooks.cli.failures import named_by_setting
from hooks.server import logs
from hooks.settings import ArchiveSettings, EventSettings, RedisSettings, TimelineSettings, load
from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.operations.dead_letters import DeadLetters
from store.redis.client import RedisClient
from store.redis.shards import Shards, connected
from store.timelines.recovery import StoreRecovery
from store.timelines.sweep import Sweeper, Swept

console = Console(stderr=True)


def sweep() -> None:
    """Make users dormant who were not seen for IM_ZOMBIE_DAYS: their timelines leave Redis until they come back."""
    timelines = load(TimelineSettings)
    _run(lambda shards: _sweep(shards, timelines))


def rebuild(force: bool = typer.Option(False, "--force", help="Rebuild even if Redis has a store already.")) -> None:
    """Restore the window's messages from the archive into an empty Redis, and start a new epoch."""
    archive_url, timelines = load(ArchiveSettings).archive_url, load(TimelineSettings)
    _run(lambda shards: _rebuild(shards, open_archive(archive_url), timelines, force))


def _run(work: Callable[[Shards[RedisClient]], Awaitable[None]]) -> None:
    redis = load(RedisSettings)
    logs.configure("error")

    async def run() -> None:
        async with connected(redis.redis_url, redis.shards, timeout=30) as shards:
            await work(shards)

    with named_by_setting():
        uvloop.run(run())


async def _sweep(shards: Shards[RedisClient], timelines: TimelineSettings) -> None:
    sweeper = Sweeper(
        shards, zombie_days=timelines.zombie_days, window_us=timelines.window_us, roaming_us=timelines.roaming_us
    )
    with console.status("sweeping") as status:
        swept = await sweeper.sweep(lambda so_far: status.update(f"sweeping: {_describe(so_far)}"))
    typer.echo(_describe(swept))


def _describe(swept: Swept) -> str:
    return (
        f"{swept.examined} users examined, {swept.dormant} made dormant, "
        f"{swept.messages} messages and {swept.memory} bytes freed"
    )


async def _rebuild(shards: Shards[RedisClient], archive: Archive, timelines: TimelineSettings, force: bool) -> None:
    home = shards.home
    events = load(EventSettings).wanted_of_each(shards.count)
    archiver = Archiver(Outbox(home), handlers(archive), DeadLetters(home, events=events))
    recovery = StoreRecovery(
        shards, archive, archiver, window_us=timelines.window_us, sync_sender=timelines.sync_sender
    )
    try:
        if not force and await recovery.epoch() is not None:
            sys.exit("emqx-im: Redis has a store already; --force rebuilds it anyway, under a new epoch")
        count = 0

        def progress(so_far: int) -> None:
            nonlocal count
            count = so_far
            status.update(f"rebuilding: {so_far} messages")

        with console.status("rebuilding") as status:
            epoch = await recovery.rebuild(progress=progress)
        typer.echo(f"{count} messages were restored; the new epoch is {epoch}")
    finally:
        await archive.close()
