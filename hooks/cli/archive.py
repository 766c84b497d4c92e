"""Implements `emqx-im migrate` and `emqx-im archive`: the archive's schema, and an archiver alone."""

import asyncio
import signal
import sys
import time
from functools import partial

import typer
import uvloop

from hooks.cli.failures import named_by_setting
from hooks.server import logs
from hooks.settings import ArchiveSettings, EventSettings, LogSettings, RedisSettings, TimelineSettings, load
from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.archive.upkeep import keep_up
from store.errors import ShardsDiffer, StoreError
from store.operations.dead_letters import DeadLetters
from store.operations.processes import Processes
from store.redis.connection import connect
from store.timelines.layout import require_number_of_shards
from store.workers import Backoff, Supervisor, Worker


def migrate() -> None:
    """Bring the archive's schema up to date and create the partitions of the coming months."""
    archive_url = load(ArchiveSettings).archive_url
    with named_by_setting():
        uvloop.run(_migrate(open_archive(archive_url)))


def archive() -> None:
    """Carry the outbox into the archive until SIGTERM; the current batch is finished first."""
    redis, archive, timelines = load(RedisSettings), load(ArchiveSettings), load(TimelineSettings)
    logs.configure(load(LogSettings).log_level)
    uvloop.run(_archive(redis, open_archive(archive.archive_url), timelines))


async def _migrate(archive: Archive) -> None:
    try:
        for name in await archive.pending_migrations():
            typer.echo(f"to apply: {name}")
        for name in await archive.migrate():
            typer.echo(f"applied: {name}")
        for name in await archive.keep_partitions(time.time_ns() // 1000):
            typer.echo(f"partition made: {name}")
        typer.echo("the archive is up to date")
    finally:
        await archive.close()


async def _archive(settings: RedisSettings, archive: Archive, timelines: TimelineSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    redis = connect(settings.redis_url)
    events = load(EventSettings).wanted_of_each(settings.shards)
    archiver = Archiver(
        Outbox(redis, replicas=settings.redis_wait), handlers(archive), DeadLetters(redis, events=events)
    )
    differs: ShardsDiffer | None = None

    async def archive_if_same(worker: Worker) -> None:
        """Archives, once the number of shards could be compared with what the store and the archive have."""
        nonlocal differs
        retry, compared = Backoff(), False
        while not compared and not worker.stop.is_set():
            try:
                await require_number_of_shards(redis, archive, settings.shards)
                compared = True
            except ShardsDiffer as error:
                differs = error
                stop.set()
                return
            except StoreError as error:
                worker.failed(error)
                await worker.sleep(retry.pause())
        await archiver.run(worker)

    try:
        async with Supervisor() as workers:
            workers.start("upkeep", partial(keep_up, archive, timelines.roaming, timelines.retention_days))
            workers.start("archiver", archive_if_same)
            workers.start("processes", Processes(redis).run)
            await stop.wait()
    finally:
        await archive.close()
        await redis.aclose()
    if differs is not None:
        sys.exit(f"emqx-im: IM_SHARDS: {differs}")
