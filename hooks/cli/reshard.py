"""Implements `emqx-im reshard`: another number of shards, while all processes are stopped."""

import sys

import typer
import uvloop
from rich.console import Console
from rich.status import Status

from hooks.cli.failures import named_by_setting
from hooks.server import logs
from hooks.settings import ArchiveSettings, EventSettings, RedisSettings, TimelineSettings, load
from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.operations.dead_letters import DeadLetters
from store.operations.processes import Processes
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.shards import connected
from store.timelines.recovery import StoreRecovery
from store.timelines.resharding import CannotReshard, Resharder

console = Console(stderr=True)


def reshard(shards: int = typer.Option(..., min=1, max=64, help="Number of shards from now on.")) -> None:
    """Move the store to another number of shards, with all processes stopped; then set IM_SHARDS to it."""
    redis, archive_url, timelines = load(RedisSettings), load(ArchiveSettings).archive_url, load(TimelineSettings)
    logs.configure("error")

    async def run() -> None:
        archive = open_archive(archive_url)
        try:
            await _reshard(redis.redis_url, archive, timelines, shards)
        finally:
            await archive.close()

    try:
        with named_by_setting():
            uvloop.run(run())
    except CannotReshard as error:
        sys.exit(f"emqx-im: {error}")
    except KeyboardInterrupt:
        sys.exit("emqx-im: interrupted; run it again to continue")


async def _reshard(url: str, archive: Archive, timelines: TimelineSettings, count: int) -> None:
    await archive.migrate()
    async with connected(url, 1, timeout=30) as only_home, connected(url, count, timeout=30) as new:
        home = only_home.home
        with console.status("looking whether processes work on the store"):
            running = await Processes(home).running()
        if running:
            raise CannotReshard(f"these processes work on the store: {', '.join(running)}. Stop them first")
        has = await _has(home, archive, count)
        events = load(EventSettings).wanted_of_each(count)
        archiver = Archiver(Outbox(home), handlers(archive), DeadLetters(home, events=events))
        recovery = StoreRecovery(
            new, archive, archiver, window_us=timelines.window_us, sync_sender=timelines.sync_sender
        )
        with console.status("looking") as status:
            if has is not None:
                async with connected(url, has, timeout=30) as old:
                    await Resharder(old, new, archive, archiver).prepare(status.update)
            elif await recovery.epoch() is not None:
                typer.echo(f"the store has {_shards(count)} already")
                return
            messages = await _rebuild(recovery, status)
    typer.echo(f"the store has {_shards(count)} now, with {messages} messages; set IM_SHARDS={count}")


async def _has(home: RedisClient, archive: Archive, count: int) -> int | None:
    """Returns how many shards a store has that is to be moved to `count`; None if it has so many, or is empty."""
    layout, shards, resharding, *_ = await home.mget(keys.LAYOUT, keys.SHARDS, keys.RESHARDING)
    if resharding is not None:
        before, to = map(int, resharding.split())
        if to != count:
            raise CannotReshard(f"a change to {_shards(to)} was interrupted: run `emqx-im reshard --shards {to}` first")
        return before
    if layout is None:
        await archive.set_shards(count)
        return None
    has = int(shards or 1)
    return None if has == count else has


async def _rebuild(recovery: StoreRecovery, status: Status) -> int:
    count = 0

    def progress(so_far: int) -> None:
        nonlocal count
        count = so_far
        status.update(f"rebuilding: {so_far} messages")

    await recovery.rebuild(progress=progress)
    return count


def _shards(count: int) -> str:
    return f"{count} shard{'s' if count > 1 else ''}"
