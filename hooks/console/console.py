"""Serves `/console/`: the pages, the login, and what a page has to know of its session."""

import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from ipaddress import ip_address
from typing import NamedTuple

import structlog
from aiohttp import web

from hooks import __version__
from hooks.api.arguments import answer, fields
from hooks.api.audit import AuditApi
from hooks.errors import Problem
from hooks.settings import HttpSettings
from hooks.tokens.logins import COOKIE, SESSION_SECONDS, Logins, same_origin
from hooks.tokens.operators import OPERATOR, Caller
from store.operations.audit import MAX_NAME
from store.operations.login_links import LoginLinks

_KINDS = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
    "md": "text/markdown",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_FAILURES_A_MINUTE = 20

log = structlog.get_logger(__name__)


class _File(NamedTuple):
    body: bytes
    kind: str
    tag: str


def why_off(settings: HttpSettings) -> str | None:
    """Returns why the console is not served; None if it is: phones must never reach it."""
    if not settings.console:
        return "IM_CONSOLE is false"
    if settings.public_port is not None or _is_loopback(settings.http_host):
        return None
    return (
        "phones could reach it: set IM_PUBLIC_PORT, so that they have a port of their own, or IM_HTTP_HOST to 127.0.0.1"
    )


class Console:
    def __init__(self, logins: Logins, links: LoginLinks, audit: AuditApi, off: str | None) -> None:
        """off: why it is not served; None: it is."""
        self._logins = logins
        self._links = links
        self._audit = audit
        self._off = off
        self._files = dict(_read(files("hooks.console") / "pages"))
        self._failures: list[float] = []
        if off is not None:
            log.warning("console_off", reason=off)

    @property
    def login_code(self) -> Callable[[], Awaitable[str]] | None:
        """Returns what makes the code of a link to log in by once; None: the console is off."""
        return self._links.make if self._off is None else None

    def routes(self) -> list[web.RouteDef]:
        if self._off is not None:
            return [web.get("/console", self.refuse), web.route("*", "/console/{path:.*}", self.refuse)]
        return [
            web.get("/console", self.forward),
            web.get("/console/session", self.session),
            web.post("/console/login", self.login),
            web.post("/console/logout", self.logout),
            web.get("/console/{path:.*}", self.file),
        ]

    async def refuse(self, request: web.Request) -> web.Response:
        raise Problem("not_found", f"the console is off: {self._off}")

    async def forward(self, request: web.Request) -> web.Response:
        raise web.HTTPPermanentRedirect("/console/")

    async def file(self, request: web.Request) -> web.Response:
        found = self._files.get(request.match_info["path"] or "index.html")
        if found is None:
            raise Problem("not_found", "the console has no such page")
        headers = {**_HEADERS, "ETag": found.tag}
        if request.headers.get("If-None-Match") == found.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=found.body, content_type=found.kind, charset="utf-8", headers=headers)

    async def session(self, request: web.Request) -> web.Response:
        """Answers who is logged in, until when (milliseconds), and the token that changes have to carry."""
        session = self._logins.of(request)
        return answer(
            {
                **session.caller._asdict(),
                **{"csrf": session.csrf, "ends": session.ends * 1000, "version": __version__},
            }
        )

    async def login(self, request: web.Request) -> web.Response:
        """Begins a session for an operator with a token, or with a link's code that was not used yet."""
        same_origin(request)
        given = await fields(request)
        name, token, once = (given.get(each, "") for each in ("name", "token", "once"))
        if not all(isinstance(each, str) for each in (name, token, once)) or not 0 < len(name.strip()) <= MAX_NAME:
            raise Problem("bad_argument", f"`name` is not a string of 1 to {MAX_NAME} characters")
        self._require_patience()
        role = self._logins.tokens.role(f"Bearer {token}")
        if once and await self._links.use(once):
            role = OPERATOR
        if role is None:
            self._failures.append(time.monotonic())
            log.warning("console_login_refused", address=request.remote or "")
            raise Problem("unauthorized", "the token is wrong, or the link was used already")
        caller = Caller(" ".join(name.split()), role)
        await self._audit.note(request, caller, 204, {"role": role})
        response = web.Response(status=204)
        secure = "https" in (request.scheme, request.headers.get("X-Forwarded-Proto"))
        response.set_cookie(
            COOKIE,
            self._logins.cookie(caller),
            max_age=SESSION_SECONDS,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=secure,
        )
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """Takes the cookie away."""
        self._logins.of(request)
        response = web.Response(status=204)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return response

    def _require_patience(self) -> None:
        """Raises Problem `too_many_logins`: nobody tries tokens one after the other."""
        now = time.monotonic()
        self._failures = [at for at in self._failures if at > now - 60]
        if len(self._failures) >= _FAILURES_A_MINUTE:
            raise Problem("too_many_logins")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(folder: Traversable, path: str = "") -> list[tuple[str, _File]]:
    """Returns the files of the pages by their paths."""
    found = []
    for each in folder.iterdir():
        name = f"{path}{each.name}"
        if each.is_dir():
            found += _read(each, f"{name}/")
        elif kind := _KINDS.get(name.rpartition(".")[2]):
            body = each.read_bytes()
            found.append((name, _File(body, kind, f'"{sha256(body).hexdigest()[:16]}"')))
    return found
