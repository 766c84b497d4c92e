"""`/hooks/authz`: EMQX's HTTP authorizer asks what the ACL file does not answer."""

from collections.abc import Callable

from hooks.errors import BadBody
from hooks.messaging.denials import Denials
from hooks.messaging.membership_judge import MembershipJudge
from hooks.messaging.patience import Asker
from hooks.topics import Global, Group, Single, Tag, command, number, receiver, sent_to
from hooks.webhook.body import Body, text

_ALLOW = b'{"result":"allow"}'
_DENY = b'{"result":"deny"}'


Undecided = Callable[[Asker | None], object]
"""Is told that a question was not decided, and of which device if it wants to subscribe."""


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
        """Raises BadBody, and StoreError where nobody has decided: never a denial then, which the broker would keep."""
        action, topic = text(body, "action"), text(body, "topic")
        name, clientid, qos = body.get("username"), str(body.get("clientid")), str(body.get("qos"))
        if type(name) is not str:
            raise BadBody("`username` is missing or not a string")
        if action not in ("publish", "subscribe"):
            raise BadBody("`action` is neither publish nor subscribe")
        uid = number(name)
        asker = None if uid is None else Asker(uid, clientid)
        decided = False
        try:
            if action == "publish":
                allowed = name in self._operators if _is_business(topic) else await self._may_publish(asker, topic, qos)
            else:
                allowed = await self._may_subscribe(asker, topic)
            decided = True
        finally:
            if not decided:
                self._undecided(asker if action == "subscribe" else None)
        if action == "publish" and not allowed and qos == "1" and asker is not None:
            self._denials.note(asker, topic)
        return _ALLOW if allowed else _DENY

    async def _may_publish(self, asker: Asker | None, topic: str, qos: str) -> bool:
        if asker is None:
            return False
        to = sent_to(topic) if self._trusted_send else receiver(topic)
        if isinstance(to, Group):
            return await self._judge.belongs(to, asker)
        if command(topic) is not None:
            return qos == "1"  # with QoS 0 nobody would carry it out, and nobody say so
        return isinstance(to, Single) or topic == f"im/will/{asker.uid}"

    async def _may_subscribe(self, asker: Asker | None, topic: str) -> bool:
        if asker is None:
            return False
        to = receiver(topic)
        if isinstance(to, Group | Tag):
            return await self._judge.belongs(to, asker)
        return isinstance(to, Global) or to == Single(asker.uid)


def _is_business(topic: str) -> bool:
    """Returns whether it is a topic of operators, who need not be users."""
    return isinstance(receiver(topic), Global | Tag)
