"""A user's states, as they are named in Redis and in the archive, and as clients get them."""

from typing import Any, NamedTuple

import orjson

from store.addresses import Inbox

READ = "read"
SETTING = "setting"
BLOCK = "block"

_MARK = b"r:"
_PEERS_MARK = b"p:"
_SETTING = b"s:"
_BLOCK = b"b:"
_GONE = b""
_ON = b"1"

_FIELDS_BYTES = 80
"""The most bytes that a state takes in an answer beside its name and value."""


class UserState(NamedTuple):
    """One of a user's states. mid: the id of its newest change, as with messages, beside which a pull gives it. name,
    value: see `include/states.lua`.
    """

    mid: int
    name: bytes
    value: bytes

    @property
    def size(self) -> int:
        """Returns what it takes in an answer, about."""
        return len(self.name) + len(self.value) + _FIELDS_BYTES

    @property
    def kind(self) -> str:
        if self.name.startswith(_SETTING):
            return SETTING
        return BLOCK if self.name.startswith(_BLOCK) else READ

    def fields(self) -> dict[str, Any]:
        """Returns it as clients get it; what is JSON already is a fragment for `orjson`."""
        of = self.name[2:].decode()
        match self.name[:2]:
            case b"r:":
                what: dict[str, Any] = {"topic": of, "mid": int(self.value)}
            case b"p:":
                what = {"topic": Inbox(int(of)).topic, "by": of, "mid": int(self.value)}
            case b"s:":
                what = {"key": of, "value": orjson.Fragment(self.value or b"null")}
            case _:
                what = {"uid": of, "on": self.value != _GONE}
        return {"kind": self.kind, **what, "at": self.mid}


def mark(topic: str, mid: int) -> UserState:
    """Says that the user has read a conversation."""
    return UserState(0, _MARK + topic.encode(), b"%d" % mid)


def peers_mark(peer: int, mid: int) -> UserState:
    """Says that a peer has read what the user wrote to them."""
    return UserState(0, _PEERS_MARK + b"%d" % peer, b"%d" % mid)


def setting(key: str, value: Any) -> UserState:
    """Keeps a value under a key; None deletes it. Raises ValueError if one of them is too long, or no JSON."""
    try:
        json = orjson.dumps(value) if value is not None else _GONE
        name = _SETTING + key.encode()
    except (TypeError, UnicodeEncodeError):
        raise ValueError("`key` or `value` is not valid JSON") from None
    if not 0 < len(key) <= MAX_KEY:
        raise ValueError(f"`key` is not a string of 1 to {MAX_KEY} characters")
    if len(json) > MAX_VALUE:
        raise ValueError(f"`value` is over {MAX_VALUE} bytes")
    return UserState(0, name, json)


def block(uid: int, *, on: bool) -> UserState:
    """Says whether the user blocks another."""
    return UserState(0, _BLOCK + b"%d" % uid, _ON if on else _GONE)


MAX_KEY = 128
"""Characters."""
MAX_VALUE = 2048
"""Bytes of JSON."""
