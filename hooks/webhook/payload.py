"""Reads a user's payload: the fields the service needs, and what it refuses. The bytes are never changed."""

import re
from typing import Any, NamedTuple, TypeGuard

import orjson

from hooks.errors import BadJson, Refused
from store.groups.groups import MAX_MEMBERS

MAX_DEPTH = 128
"""JSON nested deeper is opaque: readers of an answer that holds it might refuse the whole answer."""

RESERVED = "im."

MEMBER_BYTES = 20
"""Bytes of a user in a command's `members`: a string of 16 digits, and the separator."""

_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
    rb"|(\xed[\xa0-\xbf][\x80-\xbf])",
    re.DOTALL,
)
"""A lone surrogate, escaped (the first group) or in bytes; or an escape of another kind."""
_REPLACED = "\ufffd".encode()
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_BRACKET = re.compile(rb"[][{}]")


class Payload(NamedTuple):
    """json: a JSON object, returned as the bytes that came; otherwise opaque. client_id: its `id`, or EMQX's."""

    json: bool
    client_id: str
    ack: bool


def read(payload: bytes, sender: str, broker_id: str, max_bytes: int, *, member_bytes: int = 0) -> Payload:
    """Raises Refused. `broker_id` stands in for a missing `id`. member_bytes: by which `max_bytes` grows for each of
    `members`.
    """
    fields = parse(payload)
    if len(payload) > max_bytes + (_named(fields) * member_bytes if member_bytes else 0):
        claimed = fields.get("id") if fields is not None else None
        raise Refused("payload_too_large", claimed if isinstance(claimed, str) else broker_id)
    if fields is None:
        _check_surrogates(payload)
        return Payload(False, broker_id, False)
    client_id = fields.get("id")
    if client_id is None:
        client_id = broker_id
    elif not _is_client_id(client_id):
        raise Refused("bad_id", broker_id)
    kind = fields.get("type")
    if kind is not None:
        if type(kind) is not str or not 1 <= len(kind) <= 64:
            raise Refused("bad_type", client_id)
        if kind.startswith(RESERVED):
            raise Refused("reserved_type", client_id)
    claimed = fields.get("from")
    if claimed is not None and claimed != sender and (type(claimed) is not int or str(claimed) != sender):
        raise Refused("wrong_from", client_id)
    return Payload(True, client_id, fields.get("ack") is True)


def _named(fields: dict[str, Any] | None) -> int:
    members = fields.get("members") if fields is not None else None
    return min(len(members), MAX_MEMBERS) if isinstance(members, list) else 0


def parse(payload: bytes) -> dict[str, Any] | None:
    """Returns the JSON object, or None if the payload is opaque."""
    if payload[:1] not in (b"{", b" ", b"\n", b"\r", b"\t"):
        return None
    try:
        fields = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if type(fields) is not dict:
        return None
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH and _deeper(payload, MAX_DEPTH):
        return None
    return fields


def _check_surrogates(payload: bytes) -> None:
    """Raises BadJson for a JSON object that is opaque only because of a lone surrogate in one of its texts.
    Otherwise its `id` and `ack` would be lost, and each resend stored again.
    """
    if b"\\u" not in payload and b"\xed" not in payload:
        return
    fields = parse(_SURROGATE.sub(lambda found: _REPLACED if found[1] or found[2] else found[0], payload))
    if fields is not None:
        client_id = fields.get("id")
        raise BadJson(client_id if _is_client_id(client_id) else "")


def _is_client_id(value: object) -> TypeGuard[str]:
    return type(value) is str and 1 <= len(value) <= 64 and value.isascii() and value.isprintable()


def _deeper(payload: bytes, max_depth: int) -> bool:
    """Returns whether JSON is nested deeper, judged by its bytes, because a repeated key hides its earlier value."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", payload)):
        depth += 1 if bracket in b"{[" else -1
        if depth > max_depth:
            return True
    return False
