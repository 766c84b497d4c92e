"""Implements `emqx-im aggregate`: monthly aggregates of the archive, for roaming over a quarter or a year."""

import sys
import time

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hooks.cli.failures import named_by_setting
from hooks.server import logs
from hooks.settings import ArchiveSettings, RedisSettings, TimelineSettings, load
from store.archive.aggregate import Aggregator
from store.archive.archive import Archive, open_archive
from store.archive.outbox import Outbox
from store.archive.tables.months import AGGREGATED
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.timelines.layout import require_number_of_shards


def aggregate() -> None:
    """Pack the archive's past months into compressed blocks, from which pulls read with IM_ROAMING=quarter or year."""
    redis, archive, timelines = load(RedisSettings), load(ArchiveSettings), load(TimelineSettings)
    logs.configure("warning")
    if timelines.roaming not in AGGREGATED:
        typer.echo(f"nothing to do: IM_ROAMING={timelines.roaming} reads rows; quarter and year read aggregates")
        return
    try:
        with named_by_setting():
            uvloop.run(_connected(redis, archive.archive_url, timelines.window_us))
    except KeyboardInterrupt:
        sys.exit("emqx-im: interrupted; run it again to continue")


async def _connected(settings: RedisSettings, archive_url: str, window_us: int) -> None:
    redis, archive = connect(settings.redis_url), open_archive(archive_url)
    try:
        await archive.migrate()
        await require_number_of_shards(redis, archive, settings.shards)
        await _aggregate(redis, archive, window_us)
    finally:
        await archive.close()
        await redis.aclose()


async def _aggregate(redis: RedisClient, archive: Archive, window_us: int) -> None:
    aggregator = Aggregator(archive, Outbox(redis), window_us=window_us)
    months = await aggregator.due(time.time_ns() // 1000)
    if not months:
        typer.echo("no month is due")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:
        for month in months:
            bar = bars.add_task(month.label, total=None)

            def show(stored: int, total: int, bar: TaskID = bar) -> None:
                bars.update(bar, completed=stored, total=total)

            made = await aggregator.aggregate(month, show)
            per_message = made.bytes / made.messages if made.messages else 0.0
            typer.echo(
                f"{month.label}: {made.messages} messages in {made.blocks} blocks,"
                f" {made.bytes} bytes, {per_message:.1f} a message"
            )
