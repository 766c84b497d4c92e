"""Reads fields of the bodies that EMQX's rules send."""

import time
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any

import orjson

from hooks.errors import BadBody

UNDEFINED = "undefined"
"""EMQX writes this string where it has no value."""

Body = dict[str, Any]

_REPLAYED = "\0replayed"
"""The service's own mark in a body: no field of a rule can have this name."""


def parse(raw: bytes) -> Body:
    """Raises BadBody."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadBody(f"not JSON: {error}") from None
    if type(body) is not dict:
        raise BadBody("not a JSON object")
    return body


def text(body: Body, field: str) -> str:
    """Returns a string field with a value. Raises BadBody."""
    value = body.get(field)
    if type(value) is not str or not value or value == UNDEFINED:
        raise BadBody(f"`{field}` is missing or not a string")
    return value


def moment(body: Body, field: str) -> int:
    """Returns a time in milliseconds. Raises BadBody."""
    value = body.get(field)
    if type(value) is not int or not 0 <= value < 2**53:
        raise BadBody(f"`{field}` is missing or not a time in milliseconds")
    return value


def username(body: Body) -> str | None:
    """Returns who did it; None if EMQX knows no user (its REST API, its dashboard). Raises BadBody."""
    value = body.get("username", False)
    if value is None or value == UNDEFINED:
        return None
    if type(value) is not str:
        raise BadBody("`username` is missing or not a string")
    return value


def qos(body: Body) -> int:
    """Raises BadBody."""
    value = body.get("qos")
    if type(value) is not int or not 0 <= value <= 2:
        raise BadBody("`qos` is missing or invalid")
    return value


def payload(body: Body) -> bytes:
    """Returns what was published, byte for byte. Raises BadBody."""
    encoded = body.get("payload_b64")
    if type(encoded) is not str:
        raise BadBody("`payload_b64` is missing or not a string")
    try:
        return a2b_base64(encoded, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise BadBody(f"`payload_b64` is not base64: {error}") from None


def mark_replayed(body: Body) -> None:
    """Marks a body that an operator has handled again: its sender's budget does not apply."""
    body[_REPLAYED] = True


def is_replayed(body: Body) -> bool:
    return _REPLAYED in body


def received_at(body: Body) -> int:
    """Returns when the broker received it, in milliseconds; now if the body does not say it."""
    value = body.get("publish_received_at")
    return value if type(value) is int and value >= 0 else time.time_ns() // 1_000_000
