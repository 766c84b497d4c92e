"""Decides which web pages may pull from a browser (CORS)."""

import re
from collections.abc import Mapping

from aiohttp import web

_PATHS = ("/pull", "/healthz")
"""Paths that pages of other sites may ask for."""
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,32}")
"""The name of a header that a page may send. It is repeated in the answer, and a longer one could be a token."""
_ORIGIN = re.compile(rb"\r?\norigin:[ \t]*([!-~]{1,256})[ \t]*\r?\n", re.IGNORECASE)
_FORM = re.compile(r"null|[a-z][a-z0-9+.-]{0,31}://[a-z0-9.:\[\]-]{1,255}")
"""An origin as browsers write it. It is repeated in the answer, and anything else could be a token."""
_DAY = "86400"


class Origins:
    def __init__(self, allowed: tuple[str, ...]) -> None:
        """allowed: origins, or `*`."""
        self._allowed = allowed

    def headers(self, path: str, origin: str) -> dict[str, str]:
        """Returns what lets a page of this origin read an answer; nothing if it may not."""
        known = origin in self._allowed or ("*" in self._allowed and _FORM.fullmatch(origin))
        if not known or path not in _PATHS:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After",
            "Vary": "Origin",
        }

    def of_request(self, request: web.BaseRequest) -> dict[str, str]:
        """Returns what every answer to this request says, errors too."""
        headers = {"Cache-Control": "no-store"} if request.path == "/pull" else {}
        origin = request.headers.get("Origin")
        if origin is not None:
            headers |= self.headers(request.path, origin)
        return headers

    def of_head(self, head: bytes) -> dict[str, str]:
        """Returns the same for the answer to a head that could not be read; `head`: its beginning.

        If it does not name an origin, the only allowed one is meant.
        """
        target = head.split(b" ", 2)[1:2]
        found = _ORIGIN.search(head)
        origin = found[1].decode() if found is not None else self._allowed[0] if len(self._allowed) == 1 else ""
        return self.headers(target[0].partition(b"?")[0].decode("latin-1"), origin) if target else {}

    def preflight(self, path: str, asked: Mapping[str, str]) -> web.Response | None:
        """Returns the answer to a browser that asks whether a page may make a request; None if it may not.

        Monitoring adds its own headers to pages' requests, so any may be sent.
        """
        headers = self.headers(path, asked.get("Origin", ""))
        if not headers:
            return None
        names = [name.strip() for name in asked.get("Access-Control-Request-Headers", "").lower().split(",")]
        headers["Access-Control-Allow-Methods"] = "GET"
        headers["Access-Control-Allow-Headers"] = ", ".join(
            dict.fromkeys(["authorization", *(name for name in names if _HEADER.fullmatch(name))])
        )
        headers["Access-Control-Max-Age"] = _DAY
        headers["Vary"] = "Origin, Access-Control-Request-Headers"
        return web.Response(status=204, headers=headers)
