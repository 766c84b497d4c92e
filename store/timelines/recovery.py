"""The life of the store in Redis: it has a name, the epoch, and starts above everything that was ever given.

A Redis that is empty, or was restored to an older state, is put right from the archive before it is used again, under
a new epoch: so clients are told, instead of silently missing something.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import structlog

from store.archive.archive import Archive
from store.archive.archiver import Archiver
from store.bans.restore import restore_bans
from store.errors import ArchiveAway, StoreAway, StoreBehind, StoreEmpty, StoreError
from store.groups.restore import restore_groups
from store.groups.restore_moderation import restore_moderation
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import Lease, rebuilding
from store.redis.replicated import ReplicatedReads
from store.redis.scripts import admit, begin_admission, script
from store.redis.shards import Shards, as_shards
from store.states.restore import restore_states
from store.tags.restore import restore_tags
from store.timelines.comparison import Comparison
from store.timelines.gates import HOME, GateOutcome, carry_all, note_passed, pass_gate, pass_home_gate
from store.timelines.layout import (
    drop_before,
    drop_earlier,
    layout_of,
    require_archived_shards,
    require_known,
    require_not_resharding,
    require_shards,
    take_over,
)
from store.timelines.lives import begin_life
from store.timelines.put_back import put_back
from store.timelines.shard_rebuild import rebuild_shard

_COMPARE_SECONDS = 3
_BEGIN_EPOCH = script("begin_epoch", bytes)
log = structlog.get_logger(__name__)


class _Look(NamedTuple):
    """epoch, clock: the home's. runs: the names of the runs of the servers, by shard. not_passed: of several shards,
    those that are to pass their gates. empty: other shards without an epoch: they are empty, or were not rebuilt to the
    end. away: why other shards do not answer, by shard."""

    epoch: str | None
    clock: int
    runs: dict[int, str]
    not_passed: list[int]
    empty: list[int]
    away: dict[int, StoreAway]


class StoreRecovery:
    """Checks whether Redis is complete, and rebuilds it if it is not."""

    def __init__(
        self,
        redis: RedisClient | Shards[RedisClient],
        archive: Archive,
        archiver: Archiver,
        *,
        window_us: int,
        sync_sender: bool,
        replicas: int = 0,
        on_gate: Callable[[int, GateOutcome], object] = lambda shard, outcome: None,
    ) -> None:
        """archiver: carries this outbox into this archive. replicas: that have whatever is answered. on_gate: is told
        of each shard that was let in, where there are several.
        """
        self._shards = as_shards(redis)
        self._redis = self._shards.home
        self._archive = archive
        self._archiver = archiver
        self._window_us = window_us
        self._sync_sender = sync_sender
        self._on_gate = on_gate
        self._comparison = Comparison(self._shards, archive, window_us=window_us, sync_sender=sync_sender)
        self._runs: dict[int, str] = {}
        self._clock = 0
        self._replicas = replicas
        self._replicated = ReplicatedReads(self._redis, replicas)

    async def epoch(self) -> str | None:
        return (await self._look()).epoch

    async def home_epoch(self) -> str | None:
        """Returns the epoch of the home, whatever became of other shards. Raises StoreAway, StoreUnknown."""
        epoch, _ = await self._look_home()
        return None if epoch is None else epoch.decode()

    async def ensure(self, known: int = 0) -> str:
        """Returns the epoch, after a rebuild if one is needed. known: the highest id that this process was given.

        Raises StoreAway, also while a shard is away, after all others were looked after; ArchiveAway; StoreEmpty while
        another process rebuilds; StoreUnknown.
        """
        node = self._replicated.begin()
        look = await self._look()
        known = max(known, self._clock)
        if look.epoch is None or look.clock < known:
            return await self.rebuild(known)
        if await self._kept_shorter(look):
            # A rebuild begins by forgetting the epoch: not while the archive is away, as Redis has what it had.
            await self._archive.ping()
            return await self.rebuild(known)
        if look.empty or look.not_passed or look.runs.items() - self._runs.items():
            left = await self._let_in(look, known) if self._shards.count > 1 else {}
            admitted = look.runs.keys() - left.keys()
            try:
                async with asyncio.timeout(_COMPARE_SECONDS):
                    # Without an answer of all of them nothing can be said; it is compared when the last one is back.
                    behind = not look.away and not left and await self._behind(known)
            except (ArchiveAway, StoreAway, TimeoutError) as error:
                # Redis has what this process knows of; it is compared again until all answer.
                await self._admit(admitted)
                if isinstance(error, StoreAway):
                    raise
                raise ArchiveAway(str(error) or f"no answer within {_COMPARE_SECONDS} s") from error
            if behind:
                return await self.rebuild(known)
            await self._admit(admitted)
            for why in left.values():
                raise why
            if not look.away:
                self._runs |= look.runs
        else:
            await self._admit(look.runs)
        # What no replica has was answered to nobody, and a failover may take it: that is no loss.
        with contextlib.suppress(StoreAway):
            await self._replicated.confirm(node)
            self._clock = look.clock
        if look.away:
            raise StoreAway("; ".join(f"shard {shard} is away: {error}" for shard, error in look.away.items()))
        return look.epoch

    async def _let_in(self, look: _Look, known: int) -> dict[int, StoreError]:
        """Lets those of several shards pass their gates that are to, and rebuilds those that are empty. Returns why
        any of these was not, by shard: no other waits for it.
        """
        if await pass_home_gate(self._shards, known):
            self._on_gate(HOME, GateOutcome.COMPLETE)
        whole = [shard for shard in self._shards.others if shard in look.runs.keys() - {*look.empty}]
        left: dict[int, StoreError] = {}
        for shard in whole:
            try:
                await self._pass_gate(shard)
            except StoreError as error:
                left[shard] = error
        if look.empty:
            await self._admit({HOME, *whole} - left.keys())
        for shard in look.empty:
            try:
                rebuilt = await rebuild_shard(
                    *(self._shards, shard, self._archive, self._archiver),
                    window_us=self._window_us,
                    sync_sender=self._sync_sender,
                    replicas=self._replicas,
                )
                await self._pass_gate(shard, GateOutcome.REBUILT if rebuilt else None)
            except StoreError as error:
                left[shard] = error
        return left

    async def _pass_gate(self, shard: int, known_as: GateOutcome | None = None) -> None:
        outcome = await pass_gate(self._shards, shard, window_us=self._window_us, replicas=self._replicas)
        if outcome is not None:
            self._on_gate(shard, known_as or outcome)

    async def rebuild(self, known: int = 0, progress: Callable[[int], object] = lambda count: None) -> str:
        """Restores the window's messages into timelines, and starts and returns a new epoch above every id ever
        given.

        What is in Redis stays. `progress` gets the number of messages put back so far. Raises StoreAway, ArchiveAway,
        and then nothing is forgotten but the epoch, without which nobody reads or writes; StoreEmpty while another
        process rebuilds.
        """
        lease = rebuilding(self._redis)
        async with lease.held() as held:
            if not held:
                raise StoreEmpty("another process is rebuilding")
            runs = (await self._look()).runs
            for redis in self._shards:
                await redis.delete(redis.key(keys.EPOCH))
            await require_archived_shards(self._archive, self._shards.count)
            # From here on nothing is written. What dormant users missed is nowhere but in the outbox until it is
            # archived, so only then is it forgotten who they are.
            converted = await self._archive_outbox(lease)
            for redis in self._shards:
                await redis.delete(redis.key(keys.DORMANT), redis.key(keys.UNSEEN))
            highest = max(await self._archive.highest_id(), known)
            lowest = max(highest, time.time_ns() // 1000)
            await restore_groups(self._shards, self._archive.groups, lowest, lease.keep)
            await restore_moderation(self._redis, self._archive.moderation, lease.keep)
            await restore_tags(self._shards, self._archive.tags, lease.keep)
            await restore_bans(self._shards, self._archive.operators, lease.keep)
            await restore_states(self._shards, self._archive.states, lease.keep)
            count = await put_back(
                *(self._shards, range(self._shards.count), self._archive, highest, lease.keep),
                window_us=self._window_us,
                sync_sender=self._sync_sender,
                progress=progress,
            )
            lowest = max(lowest, time.time_ns() // 1000)
            if self._shards.count > 1:
                await self._begin_links(lowest, lease)
                for redis in self._shards:
                    await begin_admission(redis)
                await self._redis.delete(keys.AWAY)
                await note_passed(self._shards)
            await lease.keep()
            if (await self._look()).runs != runs:
                raise StoreBehind("a server was started again or replaced meanwhile, and may lack what was put back")
            # Scripts refuse everything while there is no epoch; once there is one, they answer.
            await self._admit(range(self._shards.count))
            epoch = b""
            # The home last: what it writes is applied in the others at once.
            for redis in reversed([*self._shards]):
                epoch = await _BEGIN_EPOCH.run(
                    redis,
                    new_epoch=secrets.token_urlsafe(4),
                    lowest_clock=lowest,
                    new_layout=layout_of(self._shards.count),
                    new_shards=self._shards.count,
                )
                await redis.set(redis.key(keys.WINDOW), self._window_us)
        if count and self._shards.count > 1:
            for shard in range(self._shards.count):
                self._on_gate(shard, GateOutcome.REBUILT)
        done = "store_converted" if converted else "store_rebuilt" if count else "store_begun"
        log.warning(done, epoch=epoch.decode(), layout=layout_of(self._shards.count), messages=count)
        return epoch.decode()

    async def aclose(self) -> None:
        await self._replicated.aclose()

    async def _archive_outbox(self, lease: Lease) -> bool:
        """Archives all of the outbox, and drops a store of the layout before; whether there was one."""

        async def archive_all() -> None:
            await self._archiver.archive_all(lease.keep)

        if await self._redis.exists(keys.LAYOUT):
            await archive_all()
            return False
        converted = await take_over(self._redis, archive_all)
        await drop_earlier(self._redis, lease.keep)
        return converted

    async def _look(self) -> _Look:
        """Raises StoreUnknown, StoreAway if the home is away."""
        epoch, clock = await self._look_home()
        found = await asyncio.gather(*map(self._look_at, range(self._shards.count)), return_exceptions=True)
        runs, not_passed, empty, away = dict[int, str](), list[int](), list[int](), dict[int, StoreAway]()
        for shard, each in enumerate(found):
            if isinstance(each, StoreAway) and shard:
                away[shard] = each
            elif isinstance(each, BaseException):
                raise each
            else:
                other, passed, runs[shard] = each
                if self._shards.count > 1 and passed != runs[shard].encode():
                    not_passed.append(shard)
                if shard and other is None:
                    empty.append(shard)
        return _Look(None if epoch is None else epoch.decode(), clock, runs, not_passed, empty, away)

    async def _look_at(self, shard: int) -> tuple[bytes | None, bytes | None, str]:
        """Returns the epoch of a shard, the run of the server that passed its gate last, and the present one."""
        redis = self._shards[shard]
        server: Any = await redis.info("server")
        state: Any = await redis.mget(redis.key(keys.EPOCH), redis.key(keys.ADMITTED))
        return *state, str(server["run_id"])

    async def _look_home(self) -> tuple[bytes | None, int]:
        """Returns the home's epoch and clock. Raises StoreUnknown."""
        state: Any = await self._redis.mget(keys.EPOCH, keys.CLOCK, keys.LAYOUT, keys.SHARDS, keys.RESHARDING)
        epoch, clock, layout, shards, resharding = state
        require_known(layout)
        require_not_resharding(resharding)
        require_shards(layout, shards, self._shards.count)
        return epoch, int(clock or 0)

    async def _admit(self, numbers: Iterable[int]) -> None:
        for shard in numbers:
            await admit(self._shards[shard])

    async def _begin_links(self, lowest: int, lease: Lease) -> None:
        """Begins another life of the home, whose links are empty: what was on them was put back from the archive.

        Nobody writes meanwhile; what is still on its way of an earlier life is refused.
        """
        tails: Any = await self._redis.hgetall(keys.LINKS)
        for shard in self._shards.others:
            redis, tail = self._shards[shard], int(tails.get(b"%d" % shard, 0))
            applied: Any = await redis.hget(redis.key(keys.APPLIED), "id")
            if int(applied or 0) < tail:
                await redis.hset(redis.key(keys.APPLIED), "id", tail)
            await self._redis.delete(keys.LINK_PREFIX + b"%d" % shard)
        await self._redis.delete(keys.LINK_BYTES)
        await begin_life(self._shards, lowest, rebuilt=True, keep_lock=lease.keep)

    async def _kept_shorter(self, look: _Look) -> bool:
        """Returns whether the window was raised before this process looked first: what lay beyond it is in the archive
        alone.
        """
        shorter = False
        for shard in look.runs.keys() - self._runs.keys() - {*look.empty}:
            redis = self._shards[shard]
            kept = int(await redis.get(redis.key(keys.WINDOW)) or 0)
            if kept > self._window_us:
                # From now on this process drops what is older.
                await redis.set(redis.key(keys.WINDOW), self._window_us)
                clock = int(await redis.get(redis.key(keys.CLOCK)) or 0)
                await drop_before(redis, min(time.time_ns() // 1000, clock) - self._window_us, kept)
            shorter = shorter or kept < self._window_us
        return shorter

    async def _behind(self, known: int) -> bool:
        """Returns whether Redis lacks what the archive has of the time before this run of it. known: the highest id
        that this process was given. Raises ShardsDiffer."""
        await require_archived_shards(self._archive, self._shards.count)
        highest = await self._archive.highest_id()
        # Read after it, or what is stored and archived meanwhile would seem lost.
        _, clock = await self._look_home()
        if highest > clock:
            return True
        # What is archived may still be on its way from the home to a shard.
        await carry_all(self._shards, window_us=self._window_us, replicas=self._replicas)
        return await self._comparison.lacks(min(highest, known or highest))
