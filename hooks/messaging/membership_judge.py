"""Answers who belongs to a group or holds a tag, while EMQX waits: from Redis, or from memory while it is away."""

import asyncio
import time
from collections import Counter

from hooks.messaging.doubts import Doubts
from hooks.messaging.member_cache import MemberCache
from hooks.messaging.memberships import Memberships
from hooks.messaging.patience import Asker, Patience
from store.addresses import Group, Tag
from store.errors import Overloaded, StoreAway, StoreError
from store.redis.shards import Shards
from store.timelines.wakeups import Wakeups

CREATE_SECONDS = 1.0
"""How long a connection waits, in sum, for groups that do not exist yet: their `create` may be on the way."""
_CREATE_AGAIN = 10.0

MAX_HELD = 4
"""Questions of one user that are held at a time: each keeps one of the broker's connections from other questions."""

ANSWER_SECONDS = 1.0
"""How long Redis may take to answer before it counts as away."""
AWAY_SECONDS = 3.0
"""How long a connection waits, in sum, for a Redis that is away; with the first try less than the broker waits."""
_AWAY_AGAIN = 30.0
MAX_HELD_AWAY = 32
"""Questions of all users held while Redis is away; the broker's other connections are for what memory can answer."""

_KNOWN_SECONDS = 0.5
"""How long Redis may take to answer what memory knows, too."""
_RETRY_SECONDS = 0.1


class MembershipJudge:
    """Answers the authorizer, which may wait; `Memberships` is what Redis says at once."""

    def __init__(
        self, memberships: Memberships, wakeups: Shards[Wakeups], member_cache: MemberCache, doubts: Doubts
    ) -> None:
        self._memberships = memberships
        self._wakeups = wakeups
        self._member_cache = member_cache
        self._doubts = doubts
        self._held: Counter[int] = Counter()
        self._create_patience = Patience(CREATE_SECONDS, _CREATE_AGAIN)
        self._away_patience = Patience(AWAY_SECONDS, _AWAY_AGAIN)
        self._held_away = 0
        self._away_until = 0.0

    async def belongs(self, to: Group | Tag, asker: Asker) -> bool:
        """Raises StoreError if neither Redis nor memory tells: then nobody has decided."""
        member = await self._has(to, asker)
        if member is None:
            member = self._held[asker.uid] < MAX_HELD and await self._hold(to, asker)
        learn = self._member_cache.members if member else self._member_cache.strangers
        learn(to, [asker.uid])
        return member

    async def _has(self, to: Group | Tag, asker: Asker) -> bool | None:
        """As Redis says, or memory where Redis does not answer soon. None if there never was such a group."""
        uid = asker.uid
        known = self._member_cache.is_member(to, uid)
        away = time.monotonic() < self._away_until
        try:
            if not away:
                return await self._ask(to, uid, ANSWER_SECONDS if known is None else _KNOWN_SECONDS)
        except StoreError:
            self._away_until = time.monotonic() + ANSWER_SECONDS
        if known is not None:
            if known:
                self._doubts.note(to, asker)
            return known
        with self._away_patience.wait(asker) as seconds:
            return await self._once_back(to, uid, seconds)

    async def _ask(self, to: Group | Tag, uid: int, seconds: float) -> bool | None:
        try:
            async with asyncio.timeout(seconds):
                return await self._memberships.has(to, uid)
        except TimeoutError:
            raise StoreAway(f"no answer within {seconds:g} seconds") from None

    async def _once_back(self, to: Group | Tag, uid: int, seconds: float) -> bool | None:
        """As soon as Redis answers. Raises StoreError."""
        if self._held_away >= MAX_HELD_AWAY:
            raise Overloaded(f"{MAX_HELD_AWAY} questions wait for Redis already")
        if seconds < _RETRY_SECONDS:
            raise StoreAway("Redis is away, and this connection has waited as long as it may")
        deadline = time.monotonic() + seconds
        self._held_away += 1
        try:
            while True:
                try:
                    member = await self._ask(to, uid, max(0.0, deadline - time.monotonic()))
                except StoreError:
                    if time.monotonic() + _RETRY_SECONDS >= deadline:
                        raise
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    self._away_until = 0.0
                    return member
        finally:
            self._held_away -= 1

    async def _hold(self, to: Group | Tag, asker: Asker) -> bool:
        uid = asker.uid
        self._held[uid] += 1
        try:
            with self._create_patience.wait(asker) as seconds:
                return await self._once_made(to, uid, seconds)
        finally:
            self._held[uid] -= 1
            if not self._held[uid]:
                del self._held[uid]

    async def _once_made(self, to: Group | Tag, uid: int, seconds: float) -> bool:
        """Returns whether they are a member, as soon as there is such a group: its makers find it told in their
        inboxes.
        """
        if not seconds:
            return False
        deadline = time.monotonic() + seconds
        async with self._wakeups.of(uid).watch([str(uid)]) as written:
            while True:
                written.clear()
                member = await self._memberships.has(to, uid)
                left = deadline - time.monotonic()
                if member is not None or left <= 0:
                    return bool(member)
                try:
                    async with asyncio.timeout(left):
                        await written.wait()
                except TimeoutError:
                    continue
