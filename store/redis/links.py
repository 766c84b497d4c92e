"""Links: what the home has written for the timelines of another shard is carried there, in its order, each entry once.

A script of the home puts it on the link, a stream in the home, in the same step in which it gives the ids. The caller
of that script carries the entry before it says that the message is stored: it hands the entry to the other shard, where
`apply.lua` applies it if it is the next one. If it is not, the link is read from there on, and all entries on it are
carried. A pull is complete up to the id up to which its user's shard has applied the link.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from store.cancellation import end
from store.errors import StoreAway
from store.redis import keys
from store.redis.carrier import LINK_STATE, Carrier, LetterKeeper, LinkEntry
from store.redis.client import RedisClient
from store.redis.lease import carrying
from store.redis.shards import Shards
from store.workers import Worker

_BEAT_SECONDS = 1.0
_KEPT_SECONDS = 60.0
"""How long an entry stays on its link after it was seen to be applied: a shard may lose the last it was told."""
_KEPT_BYTES = 256 * 1024 * 1024
"""What is applied leaves the links at once while there is more on them than this."""
_AWAY_SECONDS = 10.0
"""A shard that has not answered for so long is away, and is not waited for. A cluster replaces a master sooner."""

log = structlog.get_logger(__name__)


class Links:
    """The links from the home to all other shards. Its calls raise StoreAway, StoreEmpty, StoreBehind."""

    def __init__(
        self,
        shards: Shards[RedisClient],
        *,
        window_us: int,
        replicas: int = 0,
        letters: LetterKeeper | None = None,
        on_gap: Callable[[int], object] = lambda shard: None,
    ) -> None:
        """letters, on_gap: as of `Carrier`."""
        self._home = shards.home
        self._carriers = {
            shard: Carrier(
                *(shards.home, shards[shard], shard),
                window_us=window_us,
                replicas=replicas,
                home_replicas=replicas,
                letters=letters,
                on_gap=on_gap,
            )
            for shard in shards.others
        }
        self._applied: deque[tuple[float, dict[int, int]]] = deque()
        self._beats: dict[int, asyncio.Task[int]] = {}
        # By shard: since when it has not answered.
        self._silent: dict[int, float] = {}

    async def carry(self, entries: Iterable[LinkEntry]) -> None:
        """Returns once all of these are applied."""
        await asyncio.gather(*(self._carriers[entry.shard].carry(entry) for entry in entries))

    async def reach(self, mid: int, shards: Iterable[int] | None = None) -> None:
        """Returns once shards have what was stored under an id, or before it, but for shards that are away; all shards,
        unless they are named."""
        numbers = self._carriers if shards is None else [shard for shard in shards if shard]
        behind = [shard for shard in numbers if self._carriers[shard].applied < mid]
        if behind:
            away = await self._away()
            await asyncio.gather(*(self._carriers[shard].catch_up(mid) for shard in behind if shard not in away))

    async def step(self) -> None:
        """Carries what nobody else did, tells each shard up to which id it has everything, and trims the links.

        A shard that hangs holds up no other: its step goes on beside the next ones. Raises what failed in one.
        """
        if not self._carriers:
            return
        state = await LINK_STATE.run(self._home, caller_time=time.time_ns() // 1000)
        for shard, carrier in self._carriers.items():
            if shard not in self._beats:
                self._beats[shard] = asyncio.create_task(carrier.beat(state), name="beat")
                self._silent.setdefault(shard, time.monotonic())
        done, _ = await asyncio.wait(self._beats.values(), timeout=_BEAT_SECONDS)
        ended = {shard: task for shard, task in self._beats.items() if task in done}
        failures: list[BaseException] = []
        applied: dict[int, int] = {}
        for shard, task in ended.items():
            del self._beats[shard]
            failure = task.exception()
            if failure is None:
                applied[shard] = task.result()
            else:
                failures.append(failure)
        await self._note_away(ended)
        await self._trim(applied)
        if failures:
            raise failures[0]

    async def run(self, worker: Worker) -> None:
        """Does so every second, in one process for all, and always the same: only who has looked for long knows what
        is away."""
        lease, leads = carrying(self._home), False

        async def step() -> None:
            nonlocal leads
            leads = await lease.hold()
            if leads:
                await self.step()
            else:
                self._silent.clear()

        await worker.every(_BEAT_SECONDS, step)
        if leads:
            await lease.leave()

    async def aclose(self) -> None:
        for shard, task in self._beats.items():
            await end(task)
            if not task.cancelled() and (failure := task.exception()):
                # No step comes any more that would raise it.
                log.warning("beat_failed", shard=shard, error=str(failure))
        for link in self._carriers.values():
            await link.aclose()

    async def _away(self) -> set[int]:
        """Returns the shards that are away."""
        numbers: Any = await self._home.smembers(keys.AWAY)
        return {int(number) for number in numbers}

    async def _note_away(self, ended: dict[int, asyncio.Task[int]]) -> None:
        """Marks shards that have not answered for long, and no longer those that have their link again."""
        away, now = await self._away(), time.monotonic()
        for shard, task in ended.items():
            error = task.exception()
            since = self._silent.get(shard, now)
            if not isinstance(error, StoreAway) or self._carriers[shard].answered_at >= since:
                self._silent.pop(shard, None)
                since = now
            if error is None and shard in away:
                await self._home.srem(keys.AWAY, str(shard))
                log.warning("shard_is_back", shard=shard)
            elif now - since >= _AWAY_SECONDS and shard not in away:
                await self._home.sadd(keys.AWAY, str(shard))
                log.error("shard_is_away", shard=shard, error=str(error))

    async def _trim(self, applied: dict[int, int]) -> None:
        """Takes off the links what was seen to be applied a while ago. applied: what is now, by shard."""
        self._applied.append((time.monotonic(), applied))
        kept_seconds = _KEPT_SECONDS if int(await self._home.get(keys.LINK_BYTES) or 0) <= _KEPT_BYTES else 0.0
        while self._applied and time.monotonic() - self._applied[0][0] >= kept_seconds:
            _, kept = self._applied.popleft()
            for shard, id_ in kept.items():
                # A shard that is away now may come back without the last that it had.
                if shard in applied:
                    await self._carriers[shard].trim(min(id_, applied[shard]))
