"""The life of the store in Redis: it has a name, the epoch, and starts above everything that was ever given.

A Redis that is empty, or was restored to an older state, is put right from the archive before it is used again, under
a new epoch: so clients are told, instead of silently missing something.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from store.addresses import parse_stored
from store.archive.archive import Archive
from store.archive.archiver import Archiver
from store.bans.restore import restore_bans
from store.errors import ArchiveAway, StoreEmpty
from store.groups.restore import restore_groups
from store.groups.restore_moderation import restore_moderation
from store.record import Message, encode
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import Lease, rebuilding
from store.redis.scripts import admit, script
from store.states.restore import restore_states
from store.tags.restore import restore_tags
from store.timelines.comparison import Comparison
from store.timelines.destinations import destinations
from store.timelines.layout import LAYOUT, drop_before, drop_earlier, require_known, take_over

_PAGE = 1000
_COMPARE_SECONDS = 3
_BEGIN_EPOCH = script("begin_epoch", bytes)
_RESTORE = script("restore", int)
log = structlog.get_logger(__name__)


class StoreRecovery:
    """Checks whether Redis is complete, and rebuilds it if it is not."""

    def __init__(
        self, redis: RedisClient, archive: Archive, archiver: Archiver, *, window_us: int, sync_sender: bool
    ) -> None:
        """archiver: carries this outbox into this archive."""
        self._redis = redis
        self._archive = archive
        self._archiver = archiver
        self._window_us = window_us
        self._sync_sender = sync_sender
        self._comparison = Comparison(redis, archive, window_us=window_us, sync_sender=sync_sender)
        self._run = ""
        self._clock = 0

    async def epoch(self) -> str | None:
        return (await self._look())[0]

    async def ensure(self, known: int = 0) -> str:
        """Returns the epoch, after a rebuild if one is needed. known: the highest id that this process was given.

        Raises StoreAway, ArchiveAway; StoreEmpty while another process rebuilds; StoreUnknown.
        """
        epoch, clock, run = await self._look()
        known = max(known, self._clock)
        if epoch is None or clock < known:
            return await self.rebuild(known)
        if await self._kept_shorter():
            # A rebuild begins by forgetting the epoch: not while the archive is away, as Redis has what it had.
            await self._archive.ping()
            return await self.rebuild(known)
        if run != self._run:
            try:
                async with asyncio.timeout(_COMPARE_SECONDS):
                    behind = await self._behind()
            except (ArchiveAway, TimeoutError) as error:
                # Redis has what this process knows of; the archive is asked again until it answers.
                await admit(self._redis)
                raise ArchiveAway(str(error) or f"no answer within {_COMPARE_SECONDS} s") from error
            if behind:
                return await self.rebuild(known)
        await admit(self._redis)
        self._run, self._clock = run, clock
        return epoch

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
            await self._look()
            await self._redis.delete(keys.EPOCH)
            # From here on nothing is written. What dormant users missed is nowhere but in the outbox until it is
            # archived, so only then is it forgotten who they are.
            converted = await self._archive_outbox(lease)
            await self._redis.delete(keys.DORMANT, keys.UNSEEN)
            highest = max(await self._archive.highest_id(), known)
            lowest = max(highest, time.time_ns() // 1000)
            await restore_groups(self._redis, self._archive.groups, lowest, lease.keep)
            await restore_moderation(self._redis, self._archive.moderation, lease.keep)
            await restore_tags(self._redis, self._archive.tags, lease.keep)
            await restore_bans(self._redis, self._archive.operators, lease.keep)
            await restore_states(self._redis, self._archive.states, lease.keep)
            count = await self._put_back(highest, lease, progress)
            lowest = max(lowest, time.time_ns() // 1000)
            epoch = await _BEGIN_EPOCH.run(
                self._redis, new_epoch=secrets.token_urlsafe(4), lowest_clock=lowest, new_layout=LAYOUT
            )
            await self._redis.set(keys.WINDOW, self._window_us)
            await admit(self._redis)
        done = "store_converted" if converted else "store_rebuilt" if count else "store_begun"
        log.warning(done, epoch=epoch.decode(), layout=LAYOUT, messages=count)
        return epoch.decode()

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

    async def _look(self) -> tuple[str | None, int, str]:
        """Returns epoch, clock, and the name of this run of the Redis server. Raises StoreUnknown."""
        state: Any = await self._redis.mget(keys.EPOCH, keys.CLOCK, keys.LAYOUT)
        server: Any = await self._redis.info("server")
        epoch, clock, layout = state
        require_known(layout)
        return None if epoch is None else epoch.decode(), int(clock or 0), str(server["run_id"])

    async def _kept_shorter(self) -> bool:
        """Returns whether the window was raised before this process began: what lay beyond it is in the archive
        alone.
        """
        if self._run:
            return False
        kept = int(await self._redis.get(keys.WINDOW) or 0)
        if kept > self._window_us:
            # From now on this process drops what is older.
            await self._redis.set(keys.WINDOW, self._window_us)
            await drop_before(self._redis, time.time_ns() // 1000 - self._window_us, kept)
        return kept < self._window_us

    async def _behind(self) -> bool:
        """Returns whether Redis lacks what the archive has of the time before this run of it."""
        highest = await self._archive.highest_id()
        # Read after it, or what is stored and archived meanwhile would seem lost.
        _, clock, _ = await self._look()
        return highest > clock or await self._comparison.lacks(min(highest, self._clock or highest))

    async def _put_back(self, highest: int, lease: Lease, progress: Callable[[int], object]) -> int:
        after = time.time_ns() // 1000 - self._window_us
        count = 0
        page = await self._archive.scan(after, highest, _PAGE)
        while page:
            # While Redis writes a page, the archive reads the next one.
            _, following = await asyncio.gather(self._restore(page), self._archive.scan(page[-1].mid, highest, _PAGE))
            await lease.keep()
            count += len(page)
            progress(count)
            page = following
        return count

    async def _restore(self, page: Sequence[Message]) -> None:
        arguments: list[Any] = []
        for message in page:
            to = parse_stored(message.topic)
            uids, channel = destinations(to, message.sender, sync_sender=self._sync_sender)
            arguments += (channel, " ".join(uids), message.mid, encode(message))
        await _RESTORE.run(self._redis, more_arguments=arguments, window=self._window_us, now=time.time_ns() // 1000)
