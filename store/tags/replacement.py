"""A new set of a tag's profile holders, of any size: staged in pieces, then in effect at one id."""

import secrets
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from store.errors import OutboxFull, StoreError
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.lease import Lease, propagating
from store.tags.script import PropagateReply
from store.tags.tags import PAGE, Tags
from store.workers import Worker

_STAGED_AT_ONCE = 1000
_KEPT_SECONDS = 3600
"""How long staged users stay without another one following."""

_LOOK_SECONDS = 1.0
_MAX_PERMISSIONS = 2000
"""Changes that wait for the broker while propagating goes on: groups' changes wait behind them."""

log = structlog.get_logger(__name__)


class Replacement:
    """A context: what is staged in it and did not take effect leaves no trace. Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient, tags: Tags, tag: str) -> None:
        self._redis = redis
        self._tags = tags
        self._tag = tag
        self._job = secrets.token_hex(8)
        self._count = 0
        self._waiting: dict[int, None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._redis.unlink(keys.staged(self._job), keys.staged_pages(self._job))
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
        return await self._tags.replace(self._tag, self._job, self._count)

    async def _stage(self) -> None:
        if not self._waiting:
            return
        staged, pages = keys.staged(self._job), keys.staged_pages(self._job)
        uids = [str(uid) for uid in self._waiting]
        self._waiting.clear()
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.sadd(staged, *uids)
        pipeline.rpush(pages, *(" ".join(uids[start : start + PAGE]) for start in range(0, len(uids), PAGE)))
        pipeline.expire(staged, _KEPT_SECONDS)
        pipeline.expire(pages, _KEPT_SECONDS)
        added, *_ = await pipeline.execute()
        self._count += added


class Propagator:
    """Propagates what changed for very many users at once, one process at a time."""

    def __init__(self, redis: RedisClient, tags: Tags) -> None:
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
