"""`/hooks/authz`: EMQX's HTTP authorizer asks what the ACL file does not answer."""

import asyncio
import time
from collections import Counter

from hooks.audiences import Audiences
from hooks.body import Body, text
from hooks.errors import BadBody
from hooks.remembered import Remembered
from hooks.topics import Global, Group, Single, Tag, command, number, receiver, sent_to
from store.errors import StoreError
from store.news import News

HELD_SECONDS = 1.0
"""How long a question about a group that does not exist yet waits for it: its `create` may be on the way."""

MOST_HELD = 4
"""Of one user at a time: each keeps a connection of the broker's from other questions."""

_ALLOW = b'{"result":"allow"}'
_DENY = b'{"result":"deny"}'


class AuthzHook:
    def __init__(
        self,
        audiences: Audiences,
        news: News,
        remembered: Remembered,
        *,
        operators: tuple[str, ...],
        trusted_send: bool = False,
    ) -> None:
        """trusted_send: users publish to `send/…` and to no receiver's topic."""
        self._audiences = audiences
        self._news = news
        self._remembered = remembered
        self._operators = frozenset(operators)
        self._trusted_send = trusted_send
        self._held: Counter[int] = Counter()

    async def __call__(self, body: Body) -> bytes:
        """Raises BadBody."""
        action, topic = text(body, "action"), text(body, "topic")
        name = body.get("username")
        if type(name) is not str:
            raise BadBody("`username` is missing or not a string")
        match action:
            case "publish":
                allowed = await self._may_publish(name, topic, str(body.get("qos")))
            case "subscribe":
                allowed = await self._may_subscribe(name, topic)
            case _:
                raise BadBody("`action` is neither publish nor subscribe")
        return _ALLOW if allowed else _DENY

    async def _may_publish(self, name: str, topic: str, qos: str) -> bool:
        to = receiver(topic)
        if isinstance(to, Global | Tag):
            return name in self._operators
        if self._trusted_send:
            to = sent_to(topic)
        uid = number(name)
        if uid is None:
            return False
        if isinstance(to, Group):
            return await self._belongs(to, uid)
        if command(topic) is not None:
            return qos == "1"  # with QoS 0 nobody would carry it out, and nobody say so
        return isinstance(to, Single) or topic == f"im/will/{name}"

    async def _may_subscribe(self, name: str, topic: str) -> bool:
        uid = number(name)
        if uid is None:
            return False
        to = receiver(topic)
        if isinstance(to, Group | Tag):
            return await self._belongs(to, uid)
        return isinstance(to, Global) or to == Single(uid)

    async def _belongs(self, to: Group | Tag, uid: int) -> bool:
        try:
            member = await self._audiences.has(to, uid)
            if member is None:
                member = self._held[uid] < MOST_HELD and await self._hold(to, uid)
        except StoreError:
            return self._remembered.is_member(to, uid)
        learn = self._remembered.members if member else self._remembered.strangers
        learn(to, [uid])
        return member

    async def _hold(self, to: Group | Tag, uid: int) -> bool:
        self._held[uid] += 1
        try:
            return await self._once_made(to, uid)
        finally:
            self._held[uid] -= 1
            if not self._held[uid]:
                del self._held[uid]

    async def _once_made(self, to: Group | Tag, uid: int) -> bool:
        """Whether he is a member, as soon as there is such a group: its makers find it told in their inboxes."""
        deadline = time.monotonic() + HELD_SECONDS
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
