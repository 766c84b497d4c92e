"""Notes what operators change, and serves `/admin/audit` and `/admin/sent`."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web

from hooks.api.arguments import answer, page
from hooks.errors import problem
from hooks.tokens.operators import Caller
from store.addresses import Address, Global, Tag, parse
from store.archive.tables.operators import AuditRow
from store.errors import StoreError
from store.operations.audit import Audit, AuditedCall
from store.record import Message

PUBLISH = "POST /admin/publish"
_BY_BACK_ENDS = ("/admin/groups", "/admin/groups/{gid}/members", "/admin/tags/{tag}/users")
_PREVIEW, _REPLACE = "POST /admin/tags/{tag}/preview", "PUT /admin/tags/{tag}/users"
"""Paths that take a file, which may be long; the first changes nothing."""
_MAX_BODY, _MAX_VALUE, _MAX_VALUES = 2048, 160, 10

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


class AuditApi:
    """Leaves out what back ends do all day with the token alone, or the list would grow with their users: messages to
    users and groups, holders of tags, new groups and their members."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/admin/audit", self.page), web.get("/admin/sent", self.sent)]

    async def page(self, request: web.Request) -> web.Response:
        """Returns the newest calls, newest first, or those older than the id `after`."""
        after, limit = page(request)
        return answer({"audit": [_shown(row) for row in await self._audit.page(after, limit)]})

    async def sent(self, request: web.Request) -> web.Response:
        """Returns the newest messages that operators sent, newest first, or those older than the id `after`."""
        after, limit = page(request)
        return answer({"sent": [await self._sent(row) for row in await self._audit.page(after, limit, PUBLISH)]})

    async def _sent(self, row: AuditRow) -> dict[str, Any]:
        """Returns a message as it is now: the text of a stored one is kept with the message alone, so that a recall
        takes it away."""
        detail = orjson.loads(row.detail)
        given, mid = detail.get("given") or {}, (detail.get("answer") or {}).get("mid")
        to = parse(str(given.get("topic")))
        stored = await self._audit.message(to, mid) if mid and isinstance(to, Address) else None
        recalled = stored is not None and bool(stored.recalled_by)
        return {
            **{"id": row.id, "at": row.id // 1000, "name": row.name, "status": row.status},
            **{name: given.get(name) for name in ("topic", "qos", "type")},
            **{"mid": mid, "recalled": recalled},
            "body": given.get("body") if stored is None else _body(stored),
        }

    async def noted(self, request: web.Request, caller: Caller, handler: Handler) -> web.StreamResponse:
        """Returns the handler's answer, and notes the call once that is known, whatever comes of it."""
        resource = request.match_info.route.resource
        name = f"{request.method} {resource.canonical if resource else ''}"
        if name == _PREVIEW:
            return await handler(request)
        given = None if name == _REPLACE else _object(await request.read())
        # What is live only is not stored as a message, so its text is kept here: no recall has to take it away.
        body = _short(given, text=name == PUBLISH and given is not None and given.get("qos") == 0)
        status, answered = 500, None
        try:
            response = await handler(request)
            status, answered = response.status, _short(_object(getattr(response, "body", b"")))
            return response
        except Exception as error:
            known = problem(error)
            status = error.status if isinstance(error, web.HTTPException) else known.status if known else 500
            raise
        finally:
            if caller.name or not _is_by_back_ends(request, body):
                await self.note(request, caller, status, {"given": body, "answer": answered})

    async def note(self, request: web.Request, caller: Caller, status: int, detail: dict[str, object]) -> None:
        """Notes a call, in the log too; one that cannot be stored is in the log alone."""
        path, address = f"{request.method} {request.path}", request.remote or ""
        known = {name: value for name, value in detail.items() if value}
        log.info("operator_call", name=caller.name, address=address, call=path, status=status)
        try:
            await self._audit.put(AuditedCall(caller.name, address, path, status, known))
        except StoreError as error:
            log.warning("operator_call_not_stored", call=path, error=str(error))


def _body(stored: Message) -> Any:
    """Returns None for one that was recalled."""
    return None if stored.recalled_by else (_object(stored.payload) or {}).get("body")


def _short(found: dict[str, Any] | None, *, text: bool = False) -> dict[str, Any] | None:
    """Returns what is kept of an object: of a long one what is short in it, and the text of a message only if asked
    for."""
    if found is None:
        return None
    kept = {name: value for name, value in found.items() if text or name != "body"}
    if len(orjson.dumps(kept)) <= _MAX_BODY:
        return kept
    short = {name: value for name, value in kept.items() if len(orjson.dumps(value)) <= _MAX_VALUE}
    return {**dict(list(short.items())[:_MAX_VALUES]), "cut": True}


def _object(raw: Any) -> dict[str, Any] | None:
    """Returns a JSON object; None for anything else."""
    if not isinstance(raw, bytes) or not raw:
        return None
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _is_by_back_ends(request: web.Request, body: Any) -> bool:
    resource = request.match_info.route.resource
    if resource is None or resource.canonical in _BY_BACK_ENDS:
        return True
    to = parse(str(body.get("topic"))) if isinstance(body, dict) else None
    return resource.canonical == "/admin/publish" and not isinstance(to, Global | Tag)


def _shown(row: AuditRow) -> dict[str, Any]:
    return {
        **{"id": row.id, "at": row.id // 1000, "name": row.name, "address": row.address, "call": row.path},
        **{"status": row.status, "detail": orjson.loads(row.detail)},
    }
