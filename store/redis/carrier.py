"""Carries one link to its shard: each entry once, in the order of the link, whichever process put it there.

`apply.lua` applies an entry in the shard if it is the next one. If it is not, the link is read from there on, and all
entries on it are carried.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import structlog

from store.errors import LinkBroken, StoreAway, StoreBehind, StoreError
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import wait_for_replicas
from store.redis.pipelined import RedisConnection
from store.redis.scripts import script

_CARRY_SECONDS = 5.0
"""For everything that is carried for one caller, entries that others left included."""
_READ_ENTRIES = 200
"""Entries that are read from a link, or taken off it, at once."""
_TRIES = 5
"""How often an item is applied in vain before it goes to the dead letters, and the link goes on without it."""
_NOT_KNOWN = -1

log = structlog.get_logger(__name__)


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


class LetterKeeper(Protocol):
    """Where an item goes that cannot be applied."""

    async def keep(self, *, source: str, reason: str, message: str, sender: str, body: bytes) -> Any:
        """Keeps an item. source: `link`. reason: a code. message: for a reader. body: the item, as it was packed.

        Raises StoreError.
        """


class ApplyOutcome(StrEnum):
    """What became of entries. GAP: one before them is missing. STALE, LIFE: they are of another life of the home.
    FAILED: an item of one cannot be applied."""

    OK = "OK"
    GAP = "GAP"
    STALE = "STALE"
    LIFE = "LIFE"
    FAILED = "FAILED"


class FailedItem(NamedTuple):
    """entry: its id. place: in the entry, from 1 on; 0: any; below: no item of this kind is known. data: packed."""

    entry: int
    place: int
    why: str
    data: bytes


class ApplyReply(NamedTuple):
    """applied: the id of the newest entry that is applied. failed: what could not be."""

    outcome: ApplyOutcome
    applied: int
    failed: FailedItem | None

    @classmethod
    def parse(cls, reply: list[Any]) -> "ApplyReply":
        outcome, applied, failed = reply
        item = None
        if failed:
            entry, place, why, data = failed
            item = FailedItem(int(entry), place, why.decode(errors="replace"), data)
        return cls(ApplyOutcome(outcome.decode()), applied, item)


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

    answered_at: when the shard last answered, by the monotonic clock; 0: never. Its calls raise StoreAway, StoreEmpty,
    StoreBehind.
    """

    def __init__(
        self,
        home: RedisClient,
        target: RedisClient,
        shard: int,
        *,
        window_us: int,
        replicas: int,
        home_replicas: int,
        letters: LetterKeeper | None = None,
        on_gap: Callable[[int], object] = lambda shard: None,
    ) -> None:
        """replicas: of the shard, that must have what is applied. home_replicas: that must have what is read from the
        link. letters: where items go that cannot be applied; without it the link stops there. on_gap: is told of the
        shard whenever it lacked what comes before the entries carried to it.
        """
        self._home = home
        self._reading = RedisConnection(home)
        self._letters = letters
        self._on_gap = on_gap
        self._shard = shard
        self._stream = keys.LINK_PREFIX + b"%d" % shard
        self._connection = RedisConnection(target)
        self._window_us = window_us
        self._replicas = replicas
        self._home_replicas = home_replicas
        self._waiting: list[tuple[LinkEntry, asyncio.Future[None]]] = []
        self._lock = asyncio.Lock()
        # As the shard last said.
        self._life, self._applied = 0, 0
        self.answered_at = 0.0
        # The entry that was last applied in vain, how often, and the places of items in it that are passed over.
        self._failing, self._tries = 0, 0
        self._passed: list[int] = []

    @property
    def applied(self) -> int:
        """Returns the id of the newest entry that is applied, as the shard last said."""
        return self._applied

    async def carry(self, entry: LinkEntry) -> None:
        """Returns once the entry is applied."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        try:
            async with self._lock:
                if not done.done():
                    await self._carry_waiting()
            await done
        finally:
            # Nobody asks how it went if the caller has gone away.
            if not done.cancel() and not done.cancelled():
                done.exception()

    async def catch_up(self, until: int) -> None:
        """Returns once everything is applied that was on the link, if `until`, an id, may not be."""
        async with self._deadline(), self._lock:
            if self._applied < until:
                life, _ = await self._read(until)
                await self._call(life, ())
                await self._bring_the_rest()

    async def beat(self, state: LinkState) -> int:
        """Lets the shard know up to which id it has everything, after carrying what nobody else did.

        Returns the id of the newest entry that is applied.
        """
        async with self._deadline(), self._lock:
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
        await self._reading.aclose()

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
            if isinstance(error, StoreAway):
                # Those that queued behind a call that failed would only wait for the next one to fail.
                late, self._waiting = self._waiting, []
                waiting += [(entry, done) for entry, done in late if entry.life == life]
                self._waiting += [(entry, done) for entry, done in late if entry.life != life]
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
            careful=self._failing if self._tries >= _TRIES - 1 else 0,
            passed=" ".join(map(str, self._passed)),
        )
        self.answered_at = time.monotonic()
        if reply.failed is not None:
            await self._failed(reply.failed)
        if reply.outcome in (ApplyOutcome.STALE, ApplyOutcome.LIFE):
            raise StoreBehind(f"Shard {self._shard} knows another life of the home than {life}.")
        # What it found applied is on the link until the shard has written, after that, that it has everything.
        await wait_for_replicas(self._connection, self._replicas, has_written=True)
        self._life, self._applied = life, reply.applied
        if reply.outcome == ApplyOutcome.GAP:
            self._on_gap(self._shard)
        return reply

    async def _failed(self, item: FailedItem) -> None:
        """Stops the link at an item that cannot be applied, and lets it go on without it after some tries. Raises
        StoreAway."""
        if item.entry != self._failing:
            self._failing, self._tries, self._passed = item.entry, 0, []
        if self._letters is not None and item.place >= 0:
            self._tries += 1
        if self._letters is not None and item.place > 0:
            # The letter first: a process that dies in between leaves the item to another, which keeps it once more.
            message = f"shard {self._shard} cannot apply an item of {item.entry}: {item.why}"
            await self._letters.keep(source="link", reason="link_failed", message=message, sender="", body=item.data)
            self._passed.append(item.place)
            log.warning("link_item_set_aside", shard=self._shard, entry=item.entry, error=item.why)
        raise StoreAway(f"shard {self._shard} cannot apply what is on its link: {item.why}")

    async def _read(self, after: int) -> tuple[int, list[LinkEntry]]:
        """Returns the home's life, and the first entries of the link above an id, which belong to it.

        No shard may get what the home can still lose: its replicas are waited for, as the writers may not have done.
        """
        found = await _READ.run(
            self._reading, link_key=self._stream, shard=str(self._shard), after=str(after), most=_READ_ENTRIES
        )
        if found.entries:
            await wait_for_replicas(self._reading, self._home_replicas)
        return found.life, [
            LinkEntry(self._shard, int(id_), int(before), found.life, int(complete), data, ())
            for id_, before, complete, data in found.entries
        ]
