"""Keeps the archive's tables in order while the service runs."""

import time

import structlog

from store.archive.archive import Archive
from store.archive.tables.months import AGGREGATED, Roaming, droppable_before, month_of
from store.archive.tables.operators import AUDIT_SECONDS
from store.workers import Backoff, Worker

INTERVAL_SECONDS = 3600.0
RETRY_SECONDS = (10.0, 60.0)
"""The first pause after a failure, and the longest."""
ROWS_AUDIT_SECONDS = 3600
"""How long an aggregated month keeps its rows, for pulls that looked before where to read it."""

_log = structlog.get_logger(__name__)


async def keep_up(archive: Archive, roaming: Roaming, retention_days: float, worker: Worker) -> None:
    """Runs `put_in_order` once an hour. Any number of processes may do this at once."""

    async def step() -> None:
        await put_in_order(archive, roaming, retention_days, time.time_ns() // 1000)

    await worker.every(INTERVAL_SECONDS, step, retry=Backoff(*RETRY_SECONDS), finishes=True)


async def put_in_order(archive: Archive, roaming: Roaming, retention_days: float, now: int) -> None:
    """Brings the schema up to date, makes the coming months and drops what no pull reaches. now: microseconds.

    Raises ArchiveAway.
    """
    if applied := await archive.migrate():
        _log.info("archive migrated", applied=applied)
    if made := await archive.keep_partitions(now):
        _log.info("archive partitions made", months=made)
    # Counted from the newest message: a clock that runs ahead must not drop what is needed.
    newest = min(now, await archive.highest_id())
    beyond = droppable_before(roaming, retention_days, newest)
    rows = await aggregated_below(archive) if roaming in AGGREGATED else beyond
    if dropped := await archive.drop_messages(rows):
        _log.info("archive dropped rows", count=dropped)
    if dropped := await archive.tags.drop(beyond):
        _log.info("archive dropped holders", count=dropped)
    if dropped := await archive.operators.drop_audit(now - AUDIT_SECONDS * 1_000_000):
        _log.info("archive dropped audit", count=dropped)
    if dropped := await archive.blocks.drop(beyond):
        _log.info("archive dropped blocks", count=dropped)


async def aggregated_below(archive: Archive) -> int:
    """Returns the id below which every row has been read from blocks for an hour. Raises ArchiveAway."""
    aggregated = set(await archive.blocks.aggregated_for(ROWS_AUDIT_SECONDS))
    month = month_of(await archive.oldest_id())
    while month in aggregated:
        month = month_of(month.edge)
    return month.start
