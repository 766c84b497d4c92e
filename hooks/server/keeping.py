"""Keeps the store as it should be: the archive's schema up to date, and Redis with what it should hold."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from store.archive.archive import Archive
from store.errors import ShardsDiffer, StoreError
from store.timelines.recovery import StoreRecovery
from store.workers import Worker

_LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Writer(Protocol):
    @property
    def highest_id(self) -> int:
        """Returns the highest id that the store gave it."""


class StoreKeeper:
    """looked: set once the store was looked at, whatever was found. differs: what keeps the service from starting:
    that the store has another number of shards; else None."""

    def __init__(self, recovery: StoreRecovery, archive: Archive, writers: Sequence[Writer]) -> None:
        self._recovery = recovery
        self._archive = archive
        self._writers = writers
        self._migrated = False
        self.looked = asyncio.Event()
        self.differs: ShardsDiffer | None = None

    async def run(self, worker: Worker) -> None:
        await worker.every(_LOOK_SECONDS, self._look)

    async def _look(self) -> None:
        try:
            self._migrated = self._migrated or await self._migrate()
            await self._recovery.ensure(max(writer.highest_id for writer in self._writers))
        except ShardsDiffer as error:
            self.differs = error
            raise
        finally:
            self.looked.set()

    async def _migrate(self) -> bool:
        """Brings the archive's schema up to date; returns whether it could."""
        try:
            log.info("archive_migrated", applied=await self._archive.migrate())
        except StoreError as error:
            log.warning("archive_not_ready", error=str(error))
            return False
        return True
