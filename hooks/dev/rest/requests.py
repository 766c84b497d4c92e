"""Reads requests of the REST API, and answers them."""

from typing import Any

import orjson
from aiohttp import web

from hooks.dev.broker import EmbeddedBroker
from hooks.dev.rest.answers import UNKNOWN_CLIENT
from hooks.dev.session import Session
from hooks.dev.topics import valid_filter

BROKER = web.AppKey("broker", EmbeddedBroker)


class ErrorAnswer(Exception):
    """Ends a request with an error."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.body = body


def session_of(request: web.Request) -> Session:
    """Returns the session that the path names."""
    session = request.app[BROKER].sessions.get(request.match_info["clientid"])
    if session is None:
        raise ErrorAnswer(404, UNKNOWN_CLIENT)
    return session


def filter_of(item: Any) -> str:
    topic = item.get("topic") if isinstance(item, dict) else None
    if not isinstance(topic, str) or not valid_filter(topic):
        raise bad_request("topic must be a topic filter")
    return topic


def checked_qos(qos: Any) -> int:
    if type(qos) is not int or not 0 <= qos <= 2:
        raise bad_request("qos must be 0, 1 or 2")
    return qos


def number_of(request: web.Request, name: str, default: int, greatest: int) -> int:
    """Returns a number of the query, from 1."""
    text = request.query.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= greatest:
        raise bad_request(f"{name} must be a number from 1 to {greatest}")
    return int(text)


async def json_of(request: web.Request, kind: type) -> Any:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise bad_request("Request body is not valid JSON") from None
    if not isinstance(body, kind):
        raise bad_request(f"body must be a JSON {'object' if kind is dict else 'array'}")
    return body


def bad_request(message: str) -> ErrorAnswer:
    return ErrorAnswer(400, {"code": "BAD_REQUEST", "message": message})


def answered(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
