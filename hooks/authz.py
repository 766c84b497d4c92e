"""`/hooks/authz`: EMQX's HTTP authorizer asks what the ACL file does not answer."""

from hooks.body import Body, text
from hooks.errors import BadBody
from hooks.topics import Global, Single, Tag, number, receiver

_ALLOW = b'{"result":"allow"}'
_DENY = b'{"result":"deny"}'
_GROUP_COMMANDS = frozenset(["create", "invite", "join", "leave", "kick", "dismiss", "mode"])


class AuthzHook:
    def __init__(self, *, operators: tuple[str, ...]) -> None:
        self._operators = frozenset(operators)

    async def __call__(self, body: Body) -> bytes:
        """Raises BadBody."""
        action, topic = text(body, "action"), text(body, "topic")
        name = body.get("username")
        if type(name) is not str:
            raise BadBody("`username` is missing or not a string")
        match action:
            case "publish":
                allowed = self._may_publish(name, topic)
            case "subscribe":
                allowed = number(name) is not None and topic in (f"single/{name}", "business/global")
            case _:
                raise BadBody("`action` is neither publish nor subscribe")
        return _ALLOW if allowed else _DENY

    def _may_publish(self, name: str, topic: str) -> bool:
        to = receiver(topic)
        if isinstance(to, Global | Tag):
            return name in self._operators
        if number(name) is None:
            return False
        return isinstance(to, Single) or topic == f"im/will/{name}" or _is_command(topic)


def _is_command(topic: str) -> bool:
    kind, _, rest = topic.partition("/")
    name, _, command = rest.rpartition("/")
    if kind == "group":
        return number(name) is not None and command in _GROUP_COMMANDS
    return isinstance(receiver(f"{kind}/{name}"), Tag) and command in ("follow", "unfollow")
