"""Zombie timelines: users who were not seen for long become dormant, and cost nothing until they are back.

Those who were never seen cost next to nothing from the start.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog

from store.redis.client import RedisClient
from store.redis.lease import making_dormant
from store.redis.scripts import script
from store.redis.shards import Shards, as_shards
from store.timelines.spans import spans
from store.workers import Worker

INTERVAL_SECONDS = 3600
_AT_ONCE = 200
"""Users one script call looks at; everybody else waits for it."""

_MAX_INBOXES = 6000
"""Inboxes, each of one span, that one call looks at: a few milliseconds."""

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


async def _alone() -> None:
    """Keeps no lease: a sweep by hand needs none."""


class Sweeper:
    def __init__(
        self, redis: RedisClient | Shards[RedisClient], *, zombie_days: float, window_us: int, roaming_us: int
    ) -> None:
        """window_us: what Redis keeps. roaming_us: how far back pulls reach."""
        self._shards = as_shards(redis)
        self._zombie_ms = int(zombie_days * 86_400_000)
        self._window_us = window_us
        self._roaming_ms = roaming_us // 1000

    async def sweep(
        self,
        progress: Callable[[Swept], object] = lambda swept: None,
        keep_lease: Callable[[], Awaitable[object]] = _alone,
    ) -> Swept:
        """Makes everybody dormant who is due, and forgets users never seen for whom nothing is kept any more.

        Can be interrupted and run again. Raises StoreEmpty, StoreAway.
        """
        now = time.time_ns() // 1_000_000
        skipped_before = now - self._roaming_ms - _UNSEEN_MARGIN_MS
        for redis in self._shards:
            while await _FORGET.run(redis, skipped_before=skipped_before, limit=_AT_ONCE) == _AT_ONCE:
                pass
        looked_at = spans(now * 1000 - self._window_us, now * 1000 + 60_000_000)
        limit = max(1, min(_AT_ONCE, _MAX_INBOXES // len(looked_at)))
        arguments: dict[str, Any] = {
            "since": now - self._zombie_ms,
            "limit": limit,
            "first_span": looked_at[0],
            "last_span": looked_at[-1],
        }
        total = Swept()
        for redis in self._shards:
            found = None
            while found is None or found.examined == limit:
                found = await _SWEEP.run(redis, now=now, **arguments)
                total = Swept(*(before + more for before, more in zip(total, found, strict=True)))
                progress(total)
                await keep_lease()
        return total

    async def run(self, worker: Worker) -> None:
        """Sweeps once an hour, in whichever process comes first."""
        await worker.every(INTERVAL_SECONDS / 10, self._sweep_if_due)

    async def _sweep_if_due(self) -> None:
        lease, began = making_dormant(self._shards.home), time.time_ns() // 1_000_000
        if began - await lease.last() < INTERVAL_SECONDS * 1000:
            return
        async with lease.held() as held:
            if held:
                swept = await self.sweep(keep_lease=lease.keep)
                await lease.complete(began)
                log.info("swept", **swept._asdict())
