"""A new set of a tag's profile holders, of any size: staged in pieces, then in effect at one id."""

import secrets
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from store.errors import ChannelRefused, EntryFailed, OutboxFull, StoreError
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import Lease, propagating
from store.redis.shards import Shards, as_shards
from store.tags.holdings import PAGE
from store.tags.script import PropagateReply
from store.tags.tags import Tags
from store.workers import Worker

_STAGED_AT_ONCE = 1000
_KEPT_SECONDS = 3600
"""How long staged users stay without another one following."""
_KEPT_FOR_LINK_SECONDS = 7 * 86_400
"""How long other shards keep those who are to take effect: as long as they may be away."""

_LOOK_SECONDS = 1.0
_MAX_PERMISSIONS = 2000
"""Changes that wait for the broker while propagating goes on: groups' changes wait behind them."""

log = structlog.get_logger(__name__)


class Replacement:
    """A context: what is staged in it and did not take effect leaves no trace. Its calls raise StoreAway.

    Users are staged in their shards.
    """

    def __init__(self, redis: RedisClient | Shards[RedisClient], tags: Tags, tag: str) -> None:
        self._shards = as_shards(redis)
        self._tags = tags
        self._tag = tag
        self._job = secrets.token_hex(8)
        self._counts = [0] * self._shards.count
        self._is_in_doubt = False
        self._waiting: dict[int, None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_in_doubt:
            return  # A shard may have to find them yet.
        try:
            for redis in self._shards:
                await redis.unlink(*self._names(redis))
        except StoreError as failure:
            log.warning("staged_users_left", error=str(failure), seconds=_KEPT_SECONDS)

    async def add(self, uids: Iterable[int]) -> None:
        """Stages users; one who comes twice is staged once."""
        for uid in uids:
            self._waiting[uid] = None
            if len(self._waiting) == _STAGED_AT_ONCE:
                await self._stage()

    async def take_effect(self) -> int:
        """Makes the staged users the tag's profile holders; returns the id of the change. Raises ChannelRefused,
        StoreError."""
        await self._stage()
        await self._keep()
        try:
            return await self._tags.replace(self._tag, self._job, self._counts)
        except (ChannelRefused, EntryFailed, OutboxFull):
            raise
        except StoreError:
            self._is_in_doubt = True
            raise

    def _names(self, redis: RedisClient) -> tuple[bytes, bytes]:
        """Returns the keys of the set and of the list of those who are staged in a shard."""
        return redis.key(keys.staged(self._job)), redis.key(keys.staged_pages(self._job))

    async def _stage(self) -> None:
        waiting = [*self._waiting]
        self._waiting.clear()
        for redis, some in self._shards.parts(waiting, int):
            staged, pages = self._names(redis)
            uids = [str(uid) for uid in some]
            pipeline = redis.pipeline(transaction=True)
            pipeline.sadd(staged, *uids)
            pipeline.rpush(pages, *(" ".join(uids[start : start + PAGE]) for start in range(0, len(uids), PAGE)))
            pipeline.expire(staged, _KEPT_SECONDS)
            pipeline.expire(pages, _KEPT_SECONDS)
            added, *_ = await pipeline.execute()
            self._counts[self._shards.number(some[0])] += added

    async def _keep(self) -> None:
        """Sees to it that other shards keep whom they have until they hear of the change. Raises EntryFailed."""
        for shard in self._shards.others:
            redis, count = self._shards[shard], self._counts[shard]
            pipeline = redis.pipeline(transaction=True)
            pipeline.scard(self._names(redis)[0])
            for name in self._names(redis):
                pipeline.expire(name, _KEPT_FOR_LINK_SECONDS)
            staged, *_ = await pipeline.execute()
            if staged != count:
                raise EntryFailed("what was uploaded is not there any more")


class Propagator:
    """Propagates what changed for very many users at once, one process at a time."""

    def __init__(self, redis: RedisClient, tags: Tags) -> None:
        """redis: of the home."""
        self._redis = redis
        self._tags = tags

    async def run(self, worker: Worker) -> None:
        """Propagates changes, one after another. When it is stopped, another process goes on."""
        await worker.every(_LOOK_SECONDS, partial(self._propagate_all, worker), finishes=True)

    async def _propagate_all(self, worker: Worker) -> None:
        if not await self._tags.propagating():
            return
        lease = propagating(self._redis)
        async with lease.held() as held:
            if not held:
                return
            for tag in await self._tags.propagating():
                await self._propagate(tag, lease, worker)

    async def _propagate(self, tag: str, lease: Lease, worker: Worker) -> None:
        looked, changed, waits_for = 0, 0, ""
        while not worker.stop.is_set():
            await lease.keep()
            step, waiting = await self._step(tag)
            if waiting != waits_for and waiting:
                log.warning("propagation_waits", tag=tag, reason=waiting)
            waits_for = waiting
            if step is None:
                await worker.sleep(_LOOK_SECONDS)
                continue
            looked, changed = looked + step.looked, changed + step.changed
            if not step.more:
                log.info("tag_propagated", tag=tag, looked=looked, changed=changed)
                return

    async def _step(self, tag: str) -> tuple[PropagateReply | None, str]:
        """Runs one step; returns what was done, or what has to be waited for."""
        if await self._redis.xlen(keys.PERMISSIONS) > _MAX_PERMISSIONS:
            return None, "the broker has to catch up with permissions"
        try:
            return await self._tags.propagate_step(tag), ""
        except OutboxFull:
            return None, "the archive has to catch up"
