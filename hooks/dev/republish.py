"""Implements EMQX's action `republish`: publishes what a rule selected as a message of the broker."""

import re
from dataclasses import dataclass
from typing import Any

from hooks.dev import EmbeddedError
from hooks.dev.events import EventMessage

_PLACEHOLDER = re.compile(rb"\$\{(\w+)\}")
_ALWAYS = {"retain": False, "direct_dispatch": True}


@dataclass(frozen=True)
class Republish:
    """Templates: `${name}` stands for what was selected under that name."""

    topic: bytes
    qos: bytes
    payload: bytes

    @classmethod
    def read(cls, arguments: dict[str, Any]) -> "Republish":
        """Raises EmbeddedError for arguments that this broker does not follow."""
        templates = {name: str(value).encode() for name, value in arguments.items() if name not in _ALWAYS}
        if set(templates) != {"topic", "qos", "payload"} or any(arguments.get(key) != _ALWAYS[key] for key in _ALWAYS):
            raise EmbeddedError(f"republish.hocon: not supported: {arguments}")
        return cls(**templates)

    def message(self, rule: str, selected: dict[str, Any]) -> EventMessage:
        """Makes the message: it has no username and no peer, and its clientid is the rule's id."""
        return EventMessage(
            topic=_rendered(self.topic, selected).decode(),
            payload=_rendered(self.payload, selected),
            qos=int(_rendered(self.qos, selected)),
            clientid=f"emqx_im_{rule}",
        )


def _rendered(template: bytes, selected: dict[str, Any]) -> bytes:
    return _PLACEHOLDER.sub(lambda found: _bytes(selected.get(found[1].decode())), template)


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"undefined" if value is None else str(value).encode()
