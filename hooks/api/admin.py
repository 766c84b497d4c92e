"""Serves `/admin` for operators, with their token or the console's cookie; there is one module for each subject."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import web

from hooks.api.audit import AuditApi
from hooks.tokens.logins import Logins


class Subject(Protocol):
    """The paths of one subject."""

    def routes(self) -> Sequence[web.RouteDef]: ...


class AdminApi:
    def __init__(self, logins: Logins, audit: AuditApi, *subjects: Subject) -> None:
        self._logins = logins
        self._audit = audit
        self._subjects = (audit, *subjects)

    def routes(self) -> list[web.RouteDef]:
        return [route for subject in self._subjects for route in subject.routes()]

    async def respond(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Returns the answer to an operator; what changes anything is noted. Raises Problem `unauthorized`,
        `read_only`, `forged`, and what the handler raises."""
        caller = self._logins.caller(request)
        if request.method == "GET":
            return await handler(request)
        return await self._audit.noted(request, caller, handler)
