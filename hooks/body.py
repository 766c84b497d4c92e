"""Fields of the bodies that EMQX's rules send."""

from typing import Any

import orjson

from hooks.errors import BadBody
from hooks.topics import UNDEFINED

Body = dict[str, Any]


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
    """A string field with a value. Raises BadBody."""
    value = body.get(field)
    if type(value) is not str or not value or value == UNDEFINED:
        raise BadBody(f"`{field}` is missing or not a string")
    return value


def moment(body: Body, field: str) -> int:
    """A time in milliseconds. Raises BadBody."""
    value = body.get(field)
    if type(value) is not int or not 0 <= value < 2**53:
        raise BadBody(f"`{field}` is missing or not a time in milliseconds")
    return value


def username(body: Body) -> str | None:
    """Who did it; None where EMQX knows no user (its REST API, its dashboard). Raises BadBody."""
    value = body.get("username", False)
    if value is None or value == UNDEFINED:
        return None
    if type(value) is not str:
        raise BadBody("`username` is missing or not a string")
    return value
