"""Links: what the home has written for the timelines of another shard is carried there, in its order, each entry once.

A script of the home puts it on the link, a stream in the home, in the same step in which it gives the ids. The caller
of that script carries the entry before it says that the message is stored: it hands the entry to the other shard, where
`apply.lua` applies it if it is the next one. If it is not, the link is read from there on, and all entries on it are
carried. A pull is complete up to the id up to which its user's shard has applied the link.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple

from store.errors import LinkBroken, StoreAway, StoreBehind, StoreError
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import wait_for_replicas
from store.redis.lease import carrying
from store.redis.pipelined import RedisConnection
from store.redis.scripts import script
from store.redis.shards import Shards
from store.workers import Worker

_CARRY_SECONDS = 5.0
"""For everything that is carried for one caller, entries that others left included."""
_READ_ENTRIES = 200
"""Entries that are read from a link, or taken off it, at once."""
_BEAT_SECONDS = 1.0
_KEPT_SECONDS = 60.0
"""How long an entry stays on its link after it was seen to be applied: a shard may lose the last it was told."""
_KEPT_BYTES = 256 * 1024 * 1024
"""What is applied leaves the links at once while there is more on them than this."""
_NOT_KNOWN = -1


class LinkEntry(NamedTuple):
    """What one script has put on one link.

    shard: whose link. before: the id of the entry before it. life: of the home. complete: the id up to which the shard
    has everything once this is applied. data: as the script packed it. mids: the ids of what is in it.
    """

    shard: int
    id: int
    before: int
    life: int
    complete: int
    data: bytes
    mids: tuple[int, ...]

    @classmethod
    def parse(cls, reply: list[Any]) -> "LinkEntry":
        """Reads what `include/links.lua` replies of one entry."""
        shard, id_, before, life, complete, data, mids = reply
        return cls(shard, int(id_), int(before), int(life), int(complete), data, tuple(map(int, mids.split(b" "))))


class ApplyOutcome(StrEnum):
    """What became of entries. GAP: one before them is missing. STALE, LIFE: they are of another life of the home."""

    OK = "OK"
    GAP = "GAP"
    STALE = "STALE"
    LIFE = "LIFE"


class ApplyReply(NamedTuple):
    """applied: the id of the newest entry that is applied."""

    outcome: ApplyOutcome
    applied: int

    @classmethod
    def parse(cls, reply: list[Any]) -> "ApplyReply":
        outcome, applied = reply
        return cls(ApplyOutcome(outcome.decode()), applied)


class LinkState(NamedTuple):
    """The home's life and clock, and the id of the newest entry of each link."""

    life: int
    clock: int
    tails: list[int]


class LinkReply(NamedTuple):
    """life: of the home now. tail: the id of the newest entry the link ever had. entries: the next ones."""

    life: int
    tail: int
    entries: list[Any]


_APPLY = script("apply", ApplyReply)
_READ = script("link_read", LinkReply)
LINK_STATE = script("link_state", LinkState)
_TRIM = script("link_trim", int)


class Carrier:
    """Carries one link, for all of this process: what is asked for while a call is under way goes with the next one.

    Its calls raise StoreAway, StoreEmpty, StoreBehind.
    """

    def __init__(self, home: RedisClient, target: RedisClient, shard: int, *, window_us: int, replicas: int) -> None:
        """replicas: how many must have what is applied."""
        self._home = home
        self._shard = shard
        self._stream = keys.LINK_PREFIX + b"%d" % shard
        self._connection = RedisConnection(target)
        self._window_us = window_us
        self._replicas = replicas
        self._waiting: list[tuple[LinkEntry, asyncio.Future[None]]] = []
        self._lock = asyncio.Lock()
        # As the shard last said.
        self._life, self._applied = 0, 0

    @property
    def applied(self) -> int:
        """Returns the id of the newest entry that is applied, as the shard last said."""
        return self._applied

    async def carry(self, entry: LinkEntry) -> None:
        """Returns once the entry is applied."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        async with self._lock:
            if not done.done():
                await self._carry_waiting()
        await done

    async def catch_up(self, until: int) -> None:
        """Returns once everything is applied that was on the link, if `until`, an id, may not be."""
        async with self._lock, self._deadline():
            if self._applied < until:
                life, _ = await self._read(until)
                await self._call(life, ())
                await self._bring_the_rest()

    async def beat(self, state: LinkState) -> int:
        """Lets the shard know up to which id it has everything, after carrying what nobody else did.

        Returns the id of the newest entry that is applied.
        """
        async with self._lock, self._deadline():
            reply = await self._call(state.life, (), state.clock, state.tails[self._shard - 1])
            if reply.outcome == ApplyOutcome.GAP:
                await self._bring_the_rest()
            return self._applied

    async def trim(self, applied: int) -> None:
        """Takes entries off the link that were applied, up to an id."""
        while await _TRIM.run(self._home, link_key=self._stream, applied=applied, most=_READ_ENTRIES):
            pass

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _carry_waiting(self) -> None:
        """Sends what waits, but for entries of lives that are over: the home may have lost them, whatever ids have been
        applied since."""
        waiting, self._waiting = self._waiting, []
        life = max(entry.life for entry, _ in waiting)
        unique = {entry.id: entry for entry, _ in waiting if entry.life == life}
        entries = sorted(unique.values(), key=lambda entry: entry.id)
        failure: Exception = StoreAway(f"the caller of shard {self._shard} went away")
        try:
            async with self._deadline():
                await self._bring(life, entries)
        except StoreError as error:
            failure = error
        finally:
            for entry, done in waiting:
                if done.done():
                    continue
                if entry.life == self._life and entry.id <= self._applied:
                    done.set_result(None)
                elif entry.life == life:
                    done.set_exception(failure)
                else:
                    done.set_exception(StoreBehind(f"The home has begun another life than {entry.life}."))

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_CARRY_SECONDS):
                yield
        except TimeoutError:
            raise StoreAway(f"shard {self._shard} is too slow") from None

    async def _bring(self, life: int, entries: Sequence[LinkEntry]) -> None:
        """Applies entries of a life in their order, and those that are missing before them."""
        last, gap_after = entries[-1].id, -1
        while entries:
            reply = await self._call(life, entries)
            if reply.applied >= last:
                return
            if reply.outcome == ApplyOutcome.OK:
                # There were many: it goes on where it stopped.
                entries = [entry for entry in entries if entry.id > reply.applied]
            elif reply.applied == gap_after:
                break
            else:
                gap_after, entries = reply.applied, ()
            if not entries:
                now, entries = await self._read(reply.applied)
                if now != life:
                    raise StoreBehind(f"The home has begun another life than {life}.")
        raise LinkBroken(f"The link to shard {self._shard} lacks what follows {self._applied}.")

    async def _bring_the_rest(self) -> None:
        life, entries = await self._read(self._applied)
        while entries:
            await self._bring(life, entries)
            life, entries = await self._read(self._applied)

    async def _call(
        self, life: int, entries: Sequence[LinkEntry], clock: int = 0, tail: int = _NOT_KNOWN
    ) -> ApplyReply:
        reply = await _APPLY.run(
            self._connection,
            more_arguments=[field for each in entries for field in (each.id, each.before, each.complete, each.data)],
            caller_time=time.time_ns() // 1000,
            window=self._window_us,
            life=life,
            clock_now=clock,
            tail=tail,
            users_per_bitmap=keys.USERS_PER_BITMAP,
            # An item says by itself whether it is to be told of.
            event_kinds="",
            event_limit=0,
        )
        if reply.outcome in (ApplyOutcome.STALE, ApplyOutcome.LIFE):
            raise StoreBehind(f"Shard {self._shard} knows another life of the home than {life}.")
        await wait_for_replicas(self._connection, self._replicas)
        self._life, self._applied = life, reply.applied
        return reply

    async def _read(self, after: int) -> tuple[int, list[LinkEntry]]:
        """Returns the home's life, and the first entries of the link above an id, which belong to it."""
        found = await _READ.run(
            self._home, link_key=self._stream, shard=str(self._shard), after=str(after), most=_READ_ENTRIES
        )
        return found.life, [
            LinkEntry(self._shard, int(id_), int(before), found.life, int(complete), data, ())
            for id_, before, complete, data in found.entries
        ]


class Links:
    """The links from the home to all other shards. Its calls raise StoreAway, StoreEmpty, StoreBehind."""

    def __init__(self, shards: Shards[RedisClient], *, window_us: int, replicas: int = 0) -> None:
        self._home = shards.home
        self._carriers = {
            shard: Carrier(shards.home, shards[shard], shard, window_us=window_us, replicas=replicas)
            for shard in shards.others
        }
        self._applied: deque[tuple[float, dict[int, int]]] = deque()

    async def carry(self, entries: Iterable[LinkEntry]) -> None:
        """Returns once all of these are applied."""
        await asyncio.gather(*(self._carriers[entry.shard].carry(entry) for entry in entries))

    async def reach(self, mid: int, shards: Iterable[int] | None = None) -> None:
        """Returns once shards have what was stored under an id, or before it; all shards, unless they are named."""
        numbers = self._carriers if shards is None else [shard for shard in shards if shard]
        await asyncio.gather(*(self._carriers[shard].catch_up(mid) for shard in numbers))

    async def step(self) -> None:
        """Carries what nobody else did, tells each shard up to which id it has everything, and trims the links."""
        state = await LINK_STATE.run(self._home, caller_time=time.time_ns() // 1000)
        numbers = [*self._carriers]
        replies = await asyncio.gather(
            *(self._carriers[shard].beat(state) for shard in numbers), return_exceptions=True
        )
        applied = {shard: reply for shard, reply in zip(numbers, replies, strict=True) if isinstance(reply, int)}
        self._applied.append((time.monotonic(), applied))
        kept_seconds = _KEPT_SECONDS if int(await self._home.get(keys.LINK_BYTES) or 0) <= _KEPT_BYTES else 0.0
        while self._applied and time.monotonic() - self._applied[0][0] >= kept_seconds:
            _, kept = self._applied.popleft()
            for shard, id_ in kept.items():
                await self._carriers[shard].trim(id_)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply

    async def run(self, worker: Worker) -> None:
        """Does so every second, in one process for all."""
        lease = carrying(self._home)

        async def step() -> None:
            async with lease.held() as held:
                if held:
                    await self.step()

        await worker.every(_BEAT_SECONDS, step)

    async def aclose(self) -> None:
        for link in self._carriers.values():
            await link.aclose()
