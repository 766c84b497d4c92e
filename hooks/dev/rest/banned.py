"""Implements the part of the REST API about banned clients."""

import math
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from hooks.dev.bans import KINDS, Banned
from hooks.dev.rest.answers import page as page_of
from hooks.dev.rest.requests import BROKER, ErrorAnswer, answered, bad_request, json_of, number_of

_MAX_LIMIT = 10_000


async def page(request: web.Request) -> web.Response:
    number, limit = number_of(request, "page", 1, 2**31), number_of(request, "limit", 100, _MAX_LIMIT)
    return answered(200, page_of(request.app[BROKER].bans.all(), number, limit, _shown))


async def put(request: web.Request) -> web.Response:
    given = await json_of(request, dict)
    banned = _banned(given)
    if held := request.app[BROKER].bans.put(banned):
        raise ErrorAnswer(400, {"code": "ALREADY_EXISTS", "message": orjson.dumps(_shown(held)).decode()})
    return answered(200, _shown(banned))


async def end(request: web.Request) -> web.Response:
    kind, who = request.match_info["as"], request.match_info["who"]
    if not request.app[BROKER].bans.end(kind, who):
        raise ErrorAnswer(404, {"code": "NOT_FOUND", "message": f"{kind}: {who} not found"})
    return web.Response(status=204)


def _banned(given: Any) -> Banned:
    kind, who = given.get("as"), given.get("who")
    by, reason = given.get("by", "mgmt_api"), given.get("reason", "")
    if kind not in KINDS or not all(isinstance(each, str) for each in (who, by, reason)):
        raise bad_request("as must be username or clientid; who, by and reason must be strings")
    until = _seconds(given.get("until", "infinity"))
    if until <= time.time():
        raise bad_request("Cannot create expired banned")
    return Banned(kind, who, by, reason, int(time.time()), until)


def _seconds(until: Any) -> float:
    try:
        return math.inf if until == "infinity" else datetime.fromisoformat(until).timestamp()
    except (TypeError, ValueError):
        raise bad_request("until must be a time or infinity") from None


def _shown(banned: Banned) -> dict[str, Any]:
    until = "infinity" if math.isinf(banned.until) else _time(banned.until)
    who = {"as": banned.kind, "who": banned.who, "by": banned.by, "reason": banned.reason}
    return {**who, "at": _time(banned.at), "until": until}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()
