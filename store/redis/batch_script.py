"""Runs scripts that give a change an id and write it to the outbox: what they all begin with."""

import time
from collections.abc import Iterable
from typing import Any

from store.redis.carrier import LinkEntry
from store.redis.client import RedisClient
from store.redis.connection import wait_for_replicas
from store.redis.links import Links
from store.redis.memory import StoreMemory
from store.redis.scripts import Reply, Script


class BatchScript:
    """highest_id: of those it was given; a store whose clock is below it has lost them."""

    def __init__(
        self,
        redis: RedisClient,
        *,
        window_us: int,
        repeat_seconds: int,
        outbox_limit: int,
        replicas: int = 0,
        memory: StoreMemory | None = None,
        links: Links | None = None,
    ) -> None:
        """redis: a client of one connection to the home (`connect(…, single=True)`). links: to the other shards, if
        there are any.
        """
        self._redis = redis
        self._window_us = window_us
        self.repeat_seconds = repeat_seconds
        self._outbox_limit = outbox_limit
        self._replicas = replicas
        self._memory = memory
        self._links = links
        self.highest_id = 0

    async def run(self, script: Script[Reply], *, share: int = 1, **values: Any) -> Reply:
        """Returns the reply of the script to these values beside those of `include/batch.lua`.

        share: leaves the outbox to others once it is full to this part of its limit. Raises ChannelRefused, StoreError.
        """
        self.require_room()
        reply = await script.run(
            self._redis,
            caller_time=time.time_ns() // 1000,
            window=self._window_us,
            outbox_limit=self._outbox_limit // share,
            highest_id=self.highest_id,
            **values,
        )
        await wait_for_replicas(self._redis, self._replicas)
        return reply

    async def carry(self, links: Iterable[LinkEntry]) -> None:
        """Returns once other shards have what a script put on their links. Raises StoreError."""
        if self._links is not None:
            await self._links.carry(links)

    async def reach(self, id_: int, shards: Iterable[int] | None = None) -> None:
        """Returns once these shards, or all, have what was given an id, or a lower one. Raises StoreError."""
        if self._links is not None:
            await self._links.reach(id_, shards)

    def require_room(self) -> None:
        """Raises what StoreMemory raises when Redis has no room left; for callers who charge a sender first."""
        if self._memory is not None:
            self._memory.require_room()

    def given(self, id_: int) -> int:
        """Notes an id that a script gave."""
        self.highest_id = max(self.highest_id, id_)
        return id_
