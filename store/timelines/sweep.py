"""Zombie timelines: users who were not seen for long become dormant, and cost nothing until they are back.

Those who were never seen cost next to nothing from the start.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from store.cancellation import sleep_unless
from store.errors import StoreError
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script

INTERVAL_SECONDS = 3600
_AT_ONCE = 200
"""Users one script call looks at; everybody else waits for it."""

_UNSEEN_MARGIN_MS = 2 * 3_600_000
"""When the inbox of a user never seen was skipped last is noted each hour."""

log = structlog.get_logger(__name__)


class Swept(NamedTuple):
    """examined: users not seen for long. dormant: those made so. messages, memory (bytes): what that freed in Redis."""

    examined: int = 0
    dormant: int = 0
    messages: int = 0
    memory: int = 0


_SWEEP = script("sweep", Swept)
_FORGET = script("forget_unseen", int)


class Sweeper:
    def __init__(self, redis: RedisClient, *, zombie_days: float, roaming_us: int) -> None:
        """roaming_us: how far back pulls reach."""
        self._redis = redis
        self._zombie_ms = int(zombie_days * 86_400_000)
        self._roaming_ms = roaming_us // 1000

    async def sweep(self, progress: Callable[[Swept], object] = lambda swept: None) -> Swept:
        """Makes everybody dormant who is due, and forgets users never seen for whom nothing is kept any more.

        Can be interrupted and run again. Raises StoreEmpty, StoreAway.
        """
        now = time.time_ns() // 1_000_000
        skipped_before = now - self._roaming_ms - _UNSEEN_MARGIN_MS
        while await _FORGET.run(self._redis, skipped_before=skipped_before, most=_AT_ONCE) == _AT_ONCE:
            pass
        total = Swept()
        while True:
            found = await _SWEEP.run(self._redis, since=now - self._zombie_ms, now=now, most=_AT_ONCE)
            total = Swept(*(before + more for before, more in zip(total, found, strict=True)))
            progress(total)
            if found.examined < _AT_ONCE:
                return total

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: sweeps once an hour, in whichever process comes first."""
        while not stop.is_set():
            try:
                if await self._first():
                    swept = await self.sweep()
                    log.info("swept", **swept._asdict())
            except StoreError as error:
                log.warning("sweep_failed", error=str(error))
            await sleep_unless(stop, INTERVAL_SECONDS / 10)

    async def _first(self) -> bool:
        return bool(await self._redis.set(keys.SWEEP_LOCK, "1", nx=True, ex=INTERVAL_SECONDS))
