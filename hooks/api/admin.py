"""Serves `/admin` for operators, with their token; there is one module for each subject."""

from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from hooks.errors import Problem
from hooks.tokens.bearer import FixedTokens


class Subject(Protocol):
    """The paths of one subject."""

    def routes(self) -> Sequence[web.RouteDef]: ...


class AdminApi:
    def __init__(self, token: str, *subjects: Subject) -> None:
        self._tokens = FixedTokens((token,))
        self._subjects = subjects

    def routes(self) -> list[web.RouteDef]:
        return [route for subject in self._subjects for route in subject.routes()]

    def check(self, request: web.Request) -> None:
        """Raises Problem `unauthorized`."""
        if not self._tokens.accept(request.headers.get("Authorization", "")):
            raise Problem("unauthorized")
