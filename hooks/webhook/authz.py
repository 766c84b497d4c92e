"""Handles `/hooks/authz`: EMQX's HTTP authorizer asks what the ACL file does not answer."""

from collections.abc import Callable

from hooks.errors import BadBody
from hooks.messaging.denials import Denials
from hooks.messaging.membership_judge import MembershipJudge
from hooks.messaging.patience import Asker
from hooks.webhook.body import Body, text
from store.addresses import CommandTopic, Global, Group, Inbox, SendTopic, Tag, Topic, WillTopic, number, parse

_ALLOW = b'{"result":"allow"}'
_DENY = b'{"result":"deny"}'


Undecided = Callable[[Asker | None], object]
"""Called for a question that was not decided, with the device if it wants to subscribe."""


class AuthzHook:
    def __init__(
        self,
        judge: MembershipJudge,
        denials: Denials,
        undecided: Undecided,
        *,
        operators: tuple[str, ...],
        trusted_send: bool = False,
    ) -> None:
        """trusted_send: users publish to `send/…` and to no receiver's topic."""
        self._undecided = undecided
        self._judge = judge
        self._denials = denials
        self._operators = frozenset(operators)
        self._trusted_send = trusted_send

    async def __call__(self, body: Body) -> bytes:
        """Answers a question. Raises BadBody, and StoreError if nothing decides: the broker would cache a denial."""
        action, topic = text(body, "action"), text(body, "topic")
        name, clientid, qos = body.get("username"), str(body.get("clientid")), str(body.get("qos"))
        if type(name) is not str:
            raise BadBody("`username` is missing or not a string")
        if action not in ("publish", "subscribe"):
            raise BadBody("`action` is neither publish nor subscribe")
        uid, named = number(name), parse(topic)
        asker = None if uid is None else Asker(uid, clientid)
        decided = False
        try:
            if action == "publish":
                if isinstance(named, Global | Tag):  # operators need not be users
                    allowed = name in self._operators
                else:
                    allowed = await self._may_publish(asker, named, qos)
            else:
                allowed = await self._may_subscribe(asker, named)
            decided = True
        finally:
            if not decided:
                self._undecided(asker if action == "subscribe" else None)
        if action == "publish" and not allowed and qos == "1" and asker is not None:
            self._denials.note(asker, topic)
        return _ALLOW if allowed else _DENY

    async def _may_publish(self, asker: Asker | None, named: Topic | None, qos: str) -> bool:
        if asker is None:
            return False
        if isinstance(named, CommandTopic):
            return qos == "1"  # a command with QoS 0 would neither be carried out nor refused
        if isinstance(named, WillTopic):
            return named.uid == asker.uid
        if self._trusted_send:
            to = named.address if isinstance(named, SendTopic) else None
        else:
            to = named if isinstance(named, Inbox | Group) else None
        if isinstance(to, Group):
            return await self._judge.belongs(to, asker)
        return isinstance(to, Inbox)

    async def _may_subscribe(self, asker: Asker | None, named: Topic | None) -> bool:
        if asker is None:
            return False
        if isinstance(named, Group | Tag):
            return await self._judge.belongs(named, asker)
        return isinstance(named, Global) or named == Inbox(asker.uid)
