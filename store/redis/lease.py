"""Work that one process does for all."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from store.errors import LeaseLost
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script

_KEEP = script("lease_keep", int)
_LEAVE = script("lease_leave", int)

_LEASE_SECONDS = 60
"""After a process died at work another may begin."""
_PROPAGATING_SECONDS = 30
_WATCHING_SECONDS = 5
_SWEEPING_SECONDS = 10
_DELIVERING_SECONDS = 15
_CARRYING_SECONDS = 10


class Lease:
    """A right that one process has at a time, until it gives it up or is silent for `seconds`. Its calls raise
    StoreAway."""

    def __init__(self, redis: RedisClient, name: bytes, seconds: float = _LEASE_SECONDS) -> None:
        """name: a key, which lies in the client's shard."""
        self._redis = redis
        self._name = name
        self._milliseconds = int(seconds * 1000)
        self._holder = ""

    async def take(self) -> bool:
        """Returns whether this process has it now; another one may, or another task of this one."""
        holder = secrets.token_hex(16)
        taken = bool(await self._redis.set(self._redis.key(self._name), holder, nx=True, px=self._milliseconds))
        if taken:
            self._holder = holder
        return taken

    async def keep(self) -> None:
        """Keeps the lease, as the work goes on. Raises LeaseLost if this process does not have it any more."""
        if not await _KEEP.run(self._redis, lease_key=self._name, holder=self._holder, milliseconds=self._milliseconds):
            raise LeaseLost(f"{self._name.decode()}: another process has taken over")

    async def hold(self) -> bool:
        """Keeps the lease if this process has it, or takes it; returns whether it has it now."""
        with contextlib.suppress(LeaseLost):
            if self._holder:
                await self.keep()
                return True
        self._holder = ""
        return await self.take()

    async def leave(self) -> None:
        """Gives the lease up, so that another process may take it at once; one that has taken over keeps it."""
        await _LEAVE.run(self._redis, lease_key=self._name, holder=self._holder)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Takes it for a block, and leaves it at the end. False: another process has it."""
        taken = await self.take()
        try:
            yield taken
        finally:
            if taken:
                await self.leave()


class PeriodicLease(Lease):
    """Remembers when the work was done last, for work that is due every so often."""

    def __init__(self, redis: RedisClient, name: bytes, done: bytes, seconds: float = _LEASE_SECONDS) -> None:
        """name, done: keys."""
        super().__init__(redis, name, seconds)
        self._done = done

    async def last(self) -> int:
        """Returns when the work began that was completed last, milliseconds; 0: it never was, or Redis was emptied
        since.
        """
        return int(await self._redis.get(self._redis.key(self._done)) or 0)

    async def complete(self, began: int) -> None:
        await self._redis.set(self._redis.key(self._done), began)


def rebuilding(redis: RedisClient) -> Lease:
    """Returns the lease of rebuilding Redis from the archive."""
    return Lease(redis, keys.REBUILD_LOCK)


def propagating(redis: RedisClient) -> Lease:
    """Returns the lease of bringing a change of very many holders of a tag to each of them."""
    return Lease(redis, keys.PROPAGATE_LOCK, _PROPAGATING_SECONDS)


def carrying(redis: RedisClient) -> Lease:
    """Returns the lease of carrying what was put on links and nobody carried."""
    return Lease(redis, keys.LINKS_LOCK, _CARRYING_SECONDS)


def making_dormant(redis: RedisClient) -> PeriodicLease:
    """Returns the lease of looking for users who were not seen for long."""
    return PeriodicLease(redis, keys.SWEEP_LOCK, keys.SWEPT)


def reconciling(redis: RedisClient) -> PeriodicLease:
    """Returns the lease of comparing presence with the broker's list of clients."""
    return PeriodicLease(redis, keys.RECONCILE_LOCK, keys.RECONCILED)


def watching(redis: RedisClient) -> PeriodicLease:
    """Returns the lease of looking for denials in the broker that nobody decided."""
    return PeriodicLease(redis, keys.CACHES_LOCK, keys.CACHES_LOOKED, _WATCHING_SECONDS)


def sweeping(redis: RedisClient) -> Lease:
    """Returns the lease of looking for nodes of the broker that were started: one process keeps it."""
    return Lease(redis, keys.BOOT_LOCK, _SWEEPING_SECONDS)


def delivering(redis: RedisClient) -> Lease:
    """Returns the lease of delivering events to the operator's back end: one process keeps it."""
    return Lease(redis, keys.EVENTS_LOCK, _DELIVERING_SECONDS)
