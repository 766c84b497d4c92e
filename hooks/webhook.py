"""The webhook: what is the same for every path that EMQX posts to.

EMQX tries again after 429, 503 and a broken connection, and drops the event for ever after any other status. So every
failure that may pass is a 503, everything that can never succeed is kept in the dead letters before its 400, and an
unexpected error turns from the one into the other after five tries of the same event, as it would block its queue.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import orjson
import structlog
from aiohttp import web

from hooks.body import Body, parse
from hooks.emqx.outgoing import Outgoing
from hooks.errors import Problem, Refused, error_response, problem
from hooks.metrics import Metrics
from hooks.tokens import FixedTokens
from hooks.topics import UNDEFINED, number
from store.deadletter import DeadLetters
from store.errors import StoreError

PREFIX = "/hooks/"
LARGEST_BODY = 1024 * 1024
TRIES = 5
_REMEMBERED_FAILURES = 10_000

Handler = Callable[[Body], Awaitable[bytes | None]]
"""Does what one path is for. Returns a JSON answer, or None for 204."""

log = structlog.get_logger(__name__)


class Done(web.Response):
    """A 204 as bytes made once: what aiohttp does to make them costs more than the rest of a request's answer."""

    _BYTES = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._keep_alive = request.keep_alive
        transport.write(self._BYTES)

    async def write_eof(self, data: bytes = b"") -> None:
        pass


class Webhook:
    """Answers `POST /hooks/<name>`."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        tokens: FixedTokens,
        dead_letters: DeadLetters,
        outgoing: Outgoing,
        metrics: Metrics,
    ) -> None:
        self._handlers = handlers
        self._tokens = tokens
        self._dead_letters = dead_letters
        self._outgoing = outgoing
        self._metrics = metrics
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._seconds = metrics.hook_seconds.observe
        self._counts: dict[tuple[str, int], Callable[[], None]] = {}
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._draining = False

    async def finish(self, seconds: float) -> None:
        """Takes nothing new, and waits for what is open, for at most so long."""
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none_open.wait(), seconds)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """The answer to a request whose path starts with `/hooks/`."""
        started = time.perf_counter()
        name = request.path[len(PREFIX) :]
        handler = self._handlers.get(name)
        self._open += 1
        self._none_open.clear()
        try:
            if handler is None or request.method != "POST":
                return self._unknown(request)
            response = await self._answer(name, handler, request)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()
        self._count(name, response.status)
        self._seconds(time.perf_counter() - started)
        return response

    async def replay(self, name: str, raw: bytes) -> None:
        """Handles a dead letter's body again. Raises what stands against it."""
        await self._handlers[name](parse(raw))

    def handles(self, name: str) -> bool:
        return name in self._handlers

    def _count(self, name: str, status: int) -> None:
        count = self._counts.get((name, status))
        if count is None:
            count = self._metrics.hook_requests.labels(PREFIX + name, str(status)).inc
            self._counts[name, status] = count
        count()

    def _unknown(self, request: web.Request) -> web.StreamResponse:
        known = request.path[len(PREFIX) :] in self._handlers
        error = Problem("method_not_allowed" if known else "not_found")
        self._metrics.hook_requests.labels("unknown", str(error.status)).inc()
        log.error("hook_unknown", path=request.path[:200], method=request.method)
        return error_response(error)

    async def _answer(self, name: str, handler: Handler, request: web.Request) -> web.StreamResponse:
        if self._draining:
            response = error_response(Problem("shutting_down"))
            response.force_close()
            return response
        if not self._tokens.accept(request.headers.get("Authorization", "")):
            log.error("hook_unauthorized", hook=name, peer=request.remote)
            return error_response(Problem("unauthorized"))
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            log.error("hook_body_too_large", hook=name, length=request.content_length)
            return error_response(Problem("too_large"))
        try:
            body = parse(raw)
        except Problem as error:
            return await self._refuse(name, {}, raw, error)
        try:
            answer = await handler(body)
        except Problem as error:
            return await self._refuse(name, body, raw, error)
        except StoreError as error:
            return self._try_again(name, error)
        except Exception as error:
            return await self._failed(name, body, raw, error)
        if answer is None:
            return Done(status=204)
        return web.Response(body=answer, content_type="application/json")

    def _try_again(self, name: str, error: StoreError) -> web.Response:
        answer = problem(error)
        assert answer is not None
        log.warning("hook_try_again", hook=name, code=answer.code, error=str(error))
        return error_response(answer)

    async def _refuse(self, name: str, body: Body, raw: bytes, error: Problem) -> web.Response:
        """Keeps what can never succeed, tells its sender, and answers. Authorizer's questions are not kept."""
        if error.status != 400 or name == "authz":
            return error_response(error)
        sender = body.get("username")
        sender = sender if isinstance(sender, str) and sender != UNDEFINED else ""
        try:
            kept = await self._dead_letters.keep(
                source=name, reason=error.code, message=error.message, sender=sender, body=raw
            )
        except StoreError as away:
            return self._try_again(name, away)
        self._metrics.dead_letters.labels(error.code).inc()
        log.warning("dead_letter", hook=name, code=error.code, number=kept.number, sender=sender)
        if kept.tell and number(sender) is not None and isinstance(error, Refused):
            told = {"ref": error.ref, "code": error.code, "message": error.message}
            self._outgoing.tell(sender, "im.error", told)
        return error_response(error)

    async def _failed(self, name: str, body: Body, raw: bytes, error: Exception) -> web.Response:
        """An error nobody foresaw: the event is tried again, but not for ever."""
        log.error("hook_failed", hook=name, exc_info=error)
        event = orjson.dumps([name, *(body.get(field) for field in ("id", "clientid", "event", "timestamp"))]).decode()
        failures = self._failures.pop(event, 0) + 1
        if failures > TRIES:
            ref = body.get("id")
            return await self._refuse(name, body, raw, Refused("internal", ref if isinstance(ref, str) else ""))
        self._failures[event] = failures
        if len(self._failures) > _REMEMBERED_FAILURES:
            self._failures.popitem(last=False)
        return error_response(Problem("failed"))
