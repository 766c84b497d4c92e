"""Reads arguments of requests, which are accepted or refused, never clamped; and answers in JSON."""

import re
from typing import Any

import orjson
from aiohttp import web

from hooks.errors import Problem
from hooks.messaging.command_fields import uids
from store.addresses import MAX_ID, number
from store.groups.groups import MAX_MEMBERS

_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)
PAGE = 100
MAX_PAGE = 1000


def integer(request: web.Request, name: str, default: int | None, lowest: int, highest: int) -> int:
    """Returns an argument given once, or `default` where it is not given; None: it must be.

    Raises Problem `bad_argument`.
    """
    given = request.query.getall(name, [])
    if not given and default is not None:
        return default
    if len(given) != 1 or _DIGITS.fullmatch(given[0]) is None or not lowest <= int(given[0]) <= highest:
        raise Problem("bad_argument", f"`{name}` is not an integer from {lowest} to {highest}")
    return int(given[0])


def page(request: web.Request) -> tuple[int, int]:
    """Returns the arguments `after` and `limit` of a list. Raises Problem `bad_argument`."""
    return integer(request, "after", 0, 0, MAX_ID), integer(request, "limit", PAGE, 1, MAX_PAGE)


def named(request: web.Request, name: str, what: str) -> int:
    """Returns the number in the path. Raises Problem `not_found`: no number, no such thing."""
    found = number(request.match_info[name])
    if found is None:
        raise Problem("not_found", f"{what} has a number from 1 to {MAX_ID}")
    return found


async def fields(request: web.Request) -> dict[str, Any]:
    """Returns the JSON object in the body. Raises Problem `bad_argument`."""
    try:
        given = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise Problem("bad_argument", f"the body is not JSON: {error}") from None
    if type(given) is not dict:
        raise Problem("bad_argument", "the body is not a JSON object")
    return given


def added_and_removed(given: dict[str, Any], limit: int = MAX_MEMBERS) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the users in the fields `add` and `remove`, of which none is in both. Raises Problem `bad_argument`."""
    try:
        add, remove = uids(given, "add", limit), uids(given, "remove", limit)
    except ValueError as error:
        raise Problem("bad_argument", str(error)) from None
    if both := set(add) & set(remove):
        raise Problem("bad_argument", f"{both.pop()} is in `add` and in `remove`")
    return add, remove


def answer(content: object) -> web.Response:
    return web.Response(body=orjson.dumps(content), content_type="application/json")
