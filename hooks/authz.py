"""`/hooks/authz`: EMQX's HTTP authorizer asks what the ACL file does not answer."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from hooks.audiences import Audiences
from hooks.body import Body, text
from hooks.denials import Denials
from hooks.errors import BadBody
from hooks.patience import Patience
from hooks.remembered import Remembered
from hooks.topics import Global, Group, Single, Tag, command, number, receiver, sent_to
from store.errors import Overloaded, StoreAway, StoreError
from store.news import News

CREATE_SECONDS = 1.0
"""How long a connection waits, in sum, for groups that do not exist yet: their `create` may be on the way."""
_CREATE_AGAIN = 10.0

MOST_HELD = 4
"""Of one user at a time: each keeps a connection of the broker's from other questions."""

ANSWER_SECONDS = 1.0
"""How long Redis may take to answer before it counts as away."""
AWAY_SECONDS = 3.0
"""How long a connection waits, in sum, for a Redis that is away; with the first try less than the broker waits."""
_AWAY_AGAIN = 30.0
MOST_HELD_AWAY = 32
"""Of all users, while Redis is away: the rest of the broker's connections is for what memory can answer."""

_KNOWN_SECONDS = 0.5
"""How long Redis may take to answer what memory knows, too."""
_RETRY_SECONDS = 0.1

_ALLOW = b'{"result":"allow"}'
_DENY = b'{"result":"deny"}'


Undecided = Callable[[tuple[int, str] | None], object]
"""Is told that a question was not decided; uid and clientid of a device that wants to subscribe, else None."""


class AuthzHook:
    def __init__(
        self,
        audiences: Audiences,
        news: News,
        remembered: Remembered,
        denials: Denials,
        undecided: Undecided,
        *,
        operators: tuple[str, ...],
        trusted_send: bool = False,
    ) -> None:
        """trusted_send: users publish to `send/…` and to no receiver's topic."""
        self._undecided = undecided
        self._audiences = audiences
        self._news = news
        self._remembered = remembered
        self._denials = denials
        self._operators = frozenset(operators)
        self._trusted_send = trusted_send
        self._held: Counter[int] = Counter()
        self._create_patience = Patience(CREATE_SECONDS, _CREATE_AGAIN)
        self._away_patience = Patience(AWAY_SECONDS, _AWAY_AGAIN)
        self._held_away = 0
        self._away_until = 0.0

    async def __call__(self, body: Body) -> bytes:
        """Raises BadBody, and StoreError where nobody has decided: never a denial then, which the broker would keep."""
        action, topic = text(body, "action"), text(body, "topic")
        name, clientid, qos = body.get("username"), str(body.get("clientid")), str(body.get("qos"))
        if type(name) is not str:
            raise BadBody("`username` is missing or not a string")
        if action not in ("publish", "subscribe"):
            raise BadBody("`action` is neither publish nor subscribe")
        connection, uid = f"{name} {clientid}", number(name)
        decided = False
        try:
            if action == "publish":
                allowed = await self._may_publish(name, topic, qos, connection)
            else:
                allowed = await self._may_subscribe(name, topic, connection)
            decided = True
        finally:
            if not decided:
                self._undecided((uid, clientid) if action == "subscribe" and uid is not None else None)
        if action == "publish" and not allowed and qos == "1" and uid is not None:
            self._denials.note(uid, clientid, topic)
        return _ALLOW if allowed else _DENY

    async def _may_publish(self, name: str, topic: str, qos: str, connection: str) -> bool:
        to = receiver(topic)
        if isinstance(to, Global | Tag):
            return name in self._operators
        if self._trusted_send:
            to = sent_to(topic)
        uid = number(name)
        if uid is None:
            return False
        if isinstance(to, Group):
            return await self._belongs(to, uid, connection)
        if command(topic) is not None:
            return qos == "1"  # with QoS 0 nobody would carry it out, and nobody say so
        return isinstance(to, Single) or topic == f"im/will/{name}"

    async def _may_subscribe(self, name: str, topic: str, connection: str) -> bool:
        uid = number(name)
        if uid is None:
            return False
        to = receiver(topic)
        if isinstance(to, Group | Tag):
            return await self._belongs(to, uid, connection)
        return isinstance(to, Global) or to == Single(uid)

    async def _belongs(self, to: Group | Tag, uid: int, connection: str) -> bool:
        """Raises StoreError where neither Redis nor memory tells: then nobody has decided."""
        member = await self._has(to, uid, connection)
        if member is None:
            member = self._held[uid] < MOST_HELD and await self._hold(to, uid, connection)
        learn = self._remembered.members if member else self._remembered.strangers
        learn(to, [uid])
        return member

    async def _has(self, to: Group | Tag, uid: int, connection: str) -> bool | None:
        """As Redis says, or memory where Redis does not answer soon. None where there never was such a group."""
        known = self._remembered.is_member(to, uid)
        away = time.monotonic() < self._away_until
        try:
            if not away:
                return await self._ask(to, uid, ANSWER_SECONDS if known is None else _KNOWN_SECONDS)
        except StoreError:
            self._away_until = time.monotonic() + ANSWER_SECONDS
        if known is not None:
            return known
        with self._away_patience.wait(connection) as seconds:
            return await self._once_back(to, uid, seconds)

    async def _ask(self, to: Group | Tag, uid: int, seconds: float) -> bool | None:
        try:
            async with asyncio.timeout(seconds):
                return await self._audiences.has(to, uid)
        except TimeoutError:
            raise StoreAway(f"no answer within {seconds:g} seconds") from None

    async def _once_back(self, to: Group | Tag, uid: int, seconds: float) -> bool | None:
        """As soon as Redis answers. Raises StoreError."""
        if self._held_away >= MOST_HELD_AWAY:
            raise Overloaded(f"{MOST_HELD_AWAY} questions wait for Redis already")
        if seconds < _RETRY_SECONDS:
            raise StoreAway("Redis is away, and this connection has waited for it")
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

    async def _hold(self, to: Group | Tag, uid: int, connection: str) -> bool:
        self._held[uid] += 1
        try:
            with self._create_patience.wait(connection) as seconds:
                return await self._once_made(to, uid, seconds)
        finally:
            self._held[uid] -= 1
            if not self._held[uid]:
                del self._held[uid]

    async def _once_made(self, to: Group | Tag, uid: int, seconds: float) -> bool:
        """Whether they are a member, as soon as there is such a group: its makers find it told in their inboxes."""
        if not seconds:
            return False
        deadline = time.monotonic() + seconds
        async with self._news.watch([str(uid)]) as written:
            while True:
                written.clear()
                member = await self._audiences.has(to, uid)
                left = deadline - time.monotonic()
                if member is not None or left <= 0:
                    return bool(member)
                try:
                    async with asyncio.timeout(left):
                        await written.wait()
                except TimeoutError:
                    continue
