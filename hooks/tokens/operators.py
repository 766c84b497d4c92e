"""Tells callers of `/admin` apart: operators with the admin token, and viewers, who may look and change nothing."""

from typing import NamedTuple

from aiohttp import web

from hooks.errors import Problem
from hooks.tokens.bearer import FixedTokens

OPERATOR, VIEWER = "operator", "viewer"
_LOOKING = ("GET", "HEAD")


class Caller(NamedTuple):
    """name: as given at the login, unproved; "" with the token alone. role: OPERATOR or VIEWER."""

    name: str
    role: str


class OperatorTokens:
    """The admin token and, if there is one, the viewer token."""

    def __init__(self, admin_token: str, viewer_token: str | None = None) -> None:
        self._admin = FixedTokens((admin_token,))
        self._viewer = FixedTokens((viewer_token,) if viewer_token else ())

    def role(self, authorization: str) -> str | None:
        """Returns the role that an `Authorization` header gives; None: it gives none."""
        if self._admin.accept(authorization):
            return OPERATOR
        return VIEWER if self._viewer.accept(authorization) else None

    def caller(self, request: web.Request) -> Caller:
        """Raises Problem `unauthorized`, `read_only`."""
        role = self.role(request.headers.get("Authorization", ""))
        if role is None:
            raise Problem("unauthorized")
        return allowed(Caller("", role), request)


def allowed(caller: Caller, request: web.Request) -> Caller:
    """Returns the caller. Raises Problem `read_only` for a viewer who wants to change something."""
    if caller.role == VIEWER and request.method not in _LOOKING:
        raise Problem("read_only")
    return caller
