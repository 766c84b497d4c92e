"""Arguments of a query: taken as they are or refused, never clamped."""

import re

from aiohttp import web

from hooks.errors import Problem

_DIGITS = re.compile(r"[0-9]{1,16}", re.ASCII)


def integer(request: web.Request, name: str, default: int | None, lowest: int, highest: int) -> int:
    """An argument given once, or `default` where it is not given; None: it must be. Raises Problem `bad_argument`."""
    given = request.query.getall(name, [])
    if not given and default is not None:
        return default
    if len(given) != 1 or _DIGITS.fullmatch(given[0]) is None or not lowest <= int(given[0]) <= highest:
        raise Problem("bad_argument", f"`{name}` is not an integer from {lowest} to {highest}")
    return int(given[0])
