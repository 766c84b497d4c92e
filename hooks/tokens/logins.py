"""Logins of operators in a browser: a signed cookie, and a token against cross-site requests.

Nothing of a session is stored. Its key is made of the secrets, so changing a token ends all sessions.
"""

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

import orjson
from aiohttp import web

from hooks.errors import Problem
from hooks.tokens.operators import Caller, OperatorTokens, allowed

COOKIE = "emqx_im_console"
CSRF_HEADER = "X-CSRF-Token"
SESSION_SECONDS = 12 * 3600
_LOOKING = ("GET", "HEAD")


class LoggedIn(NamedTuple):
    """caller: who logged in. ends: seconds. csrf: what calls that change anything have to carry."""

    caller: Caller
    ends: int
    csrf: str


class Logins:
    """tokens: what may be presented at the login."""

    def __init__(self, tokens: OperatorTokens, secret: str, admin_token: str, viewer_token: str | None) -> None:
        self.tokens = tokens
        parts = ("console", admin_token, viewer_token or "")
        self._key = hmac.digest(secret.encode(), "\n".join(parts).encode(), "sha256")

    def cookie(self, caller: Caller) -> str:
        """Returns the cookie of a session that begins now."""
        content = orjson.dumps({"name": caller.name, "role": caller.role, "ends": int(time.time()) + SESSION_SECONDS})
        body = urlsafe_b64encode(content).decode()
        return f"{body}.{self._signed('session', body)}"

    def read(self, cookie: str) -> LoggedIn | None:
        """Returns the session of a cookie; None if it is not ours, or over."""
        body, _, signature = cookie.partition(".")
        if not _is(signature, self._signed("session", body)):
            return None
        held = orjson.loads(urlsafe_b64decode(body))
        if held["ends"] <= time.time():
            return None
        return LoggedIn(Caller(held["name"], held["role"]), held["ends"], self._signed("csrf", cookie))

    def of(self, request: web.Request) -> LoggedIn:
        """Returns the session of a request. Raises Problem `unauthorized`, `forged`."""
        session = self.read(request.cookies.get(COOKIE, ""))
        if session is None:
            raise Problem("unauthorized", "you are not logged in, or your session is over")
        if request.method not in _LOOKING:
            same_origin(request)
            if not _is(request.headers.get(CSRF_HEADER, ""), session.csrf):
                raise Problem("forged")
        return session

    def caller(self, request: web.Request) -> Caller:
        """Returns who calls: a session's operator where no token is presented. Raises Problem."""
        if "Authorization" in request.headers or COOKIE not in request.cookies:
            return self.tokens.caller(request)
        return allowed(self.of(request).caller, request)

    def _signed(self, purpose: str, text: str) -> str:
        return hmac.digest(self._key, f"{purpose}\n{text}".encode("utf-8", "surrogateescape"), "sha256").hex()


def _is(given: str, expected: str) -> bool:
    """Compares what a header says, in which any bytes may stand, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def same_origin(request: web.Request) -> None:
    """Raises Problem `forged` where a browser says that another site's page makes this request."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Problem("forged")
