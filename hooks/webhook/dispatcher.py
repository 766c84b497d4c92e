"""Handles what is the same for every webhook path that EMQX posts to.

EMQX tries again after 429, 503 and a broken connection, and drops the event for ever after any other status. So every
failure that may pass is a 503, everything that can never succeed is kept in the dead letters before its 400, and an
unexpected error turns from the one into the other after five tries of the same event, as it would block its queue.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

import structlog
from aiohttp import web

from hooks.bounded import Bounded
from hooks.errors import RETRY_SECONDS, BadJson, OverBudget, Problem, Refused, error_body, error_response, problem
from hooks.messaging.outgoing import Outgoing
from hooks.messaging.sync import SLOW_SECONDS, Sync
from hooks.metrics import Metrics
from hooks.tokens.bearer import FixedTokens
from hooks.webhook import body as fields
from hooks.webhook.body import UNDEFINED, Body, parse
from hooks.webhook.over_budget import OverBudgetNotices
from store.addresses import number
from store.errors import SenderOverBudget, StoreAway
from store.operations.dead_letters import DeadLetters
from store.redis.budget import Budget

PREFIX = "/hooks/"
MAX_BODY = 1024 * 1024
TRIES = 5
HANDLE_SECONDS = 2.5
RECOVER_SECONDS = 2.0
"""Together, with what an appended message may take, under the five seconds that every answer has."""
QUESTION_SECONDS = 4.5
"""For questions of the authorizer there is nothing to recover: an undecided one is answered 503 after this."""
QUESTION = "authz"
_REMEMBERED_FAILURES = 10_000
_NAME = re.compile(r"[a-z_]{1,32}")
"""The form of an unknown path that may be logged: anything else could be a token."""

Handler = Callable[[Body], Awaitable[Any] | None]
"""Handles one path. Bytes are a JSON answer, anything else is 204. A future costs less than a coroutine."""

log = structlog.get_logger(__name__)


class Answer(NamedTuple):
    """body: JSON, or nothing."""

    status: int
    body: bytes = b""


DONE = Answer(204)

Reply = Callable[[Answer], None]
Result = TypeVar("Result")


class Webhook:
    """Answers `POST /hooks/<name>`."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        tokens: FixedTokens,
        dead_letters: DeadLetters,
        outgoing: Outgoing,
        sync: Sync,
        metrics: Metrics,
        budget: Budget,
    ) -> None:
        self._handlers = handlers
        self.accepts = tokens.accept
        self._dead_letters = dead_letters
        self._outgoing = outgoing
        self._sync = sync
        self._metrics = metrics
        self._budget = budget
        self._over_budget = OverBudgetNotices(dead_letters, outgoing, metrics)
        self._failures = Bounded[str, int](_REMEMBERED_FAILURES)
        self._seconds = metrics.hook_seconds.observe
        self._counts: dict[tuple[str, int], Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._draining = False

    def handles(self, name: str) -> bool:
        return name in self._handlers

    def answer(self, name: str, raw: bytes, reply: Reply) -> None:
        """Handles one authorized body; `reply` is called once, before this returns or later."""
        question = name == QUESTION
        if self._draining and not question:
            reply(_problem_answer(Problem("shutting_down")))
            return
        started = time.perf_counter()
        if not question:
            self._open += 1
            self._none_open.clear()
        body: Body = {}

        def finish(answer: Answer) -> None:
            if not question:
                self._open -= 1
                if not self._open:
                    self._none_open.set()
            self._count(name, answer.status)
            seconds = time.perf_counter() - started
            self._seconds(seconds)
            if seconds > SLOW_SECONDS and answer is DONE:
                self._sync.slow(name, body)
            reply(answer)

        def on_result(future: asyncio.Future[Any]) -> None:
            error = asyncio.CancelledError() if future.cancelled() else future.exception()
            if error is None:
                result = future.result()
                finish(Answer(200, result) if type(result) is bytes else DONE)
            else:
                fail(error)

        def fail(error: BaseException) -> None:
            if isinstance(error, OverBudget | SenderOverBudget):
                finish(self._refuse_over_budget(body, error))
                return
            self._spawn(self._recover(name, body, raw, error)).add_done_callback(lambda task: finish(task.result()))

        try:
            body = parse(raw)
            result = self._handlers[name](body)
        except Exception as error:
            fail(error)
            return
        if result is None:
            finish(DONE)
        elif isinstance(result, asyncio.Future):
            result.add_done_callback(on_result)
        else:
            self._spawn(_within(QUESTION_SECONDS if question else HANDLE_SECONDS, result)).add_done_callback(on_result)

    async def replay(self, name: str, raw: bytes) -> None:
        """Handles a dead letter's body again, regardless of its sender's budget. Raises the error if it fails."""
        body = parse(raw)
        fields.mark_replayed(body)
        result = self._handlers[name](body)
        if result is not None:
            await result

    async def finish(self, seconds: float) -> None:
        """Accepts only questions from now on, and waits for open requests, at most this many seconds.  EMQX would
        cache a refused question as a denial, and it goes on asking until its connections are closed.
        """
        self._draining = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none_open.wait(), seconds)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Returns the answer to any request whose path starts with `/hooks/`."""
        name = request.path[len(PREFIX) :]
        if not self.handles(name) or request.method != "POST":
            log.error("hook_unknown", hook=name if _NAME.fullmatch(name) else "no name", method=request.method)
            return self._reject("unknown", "method_not_allowed" if self.handles(name) else "not_found")
        if not self.accepts(request.headers.get("Authorization", "")):
            log.error("hook_unauthorized", hook=name, peer=request.remote)
            return self._reject(name, "unauthorized")
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            log.error("hook_body_too_large", hook=name, length=request.content_length)
            return self._reject(name, "too_large")
        except web.RequestPayloadError as error:
            log.error("hook_body_broken", hook=name, error=type(error.__cause__ or error).__name__)
            return self._reject(name, "bad_body")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.answer(name, raw, answered.set_result)
        status, body = await answered
        response = web.Response(status=status, body=body or None)
        if body:
            response.content_type = "application/json"
        if status == 503:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response

    def _reject(self, name: str, code: str) -> web.Response:
        error = Problem(code)
        self._count(name, error.status)
        return error_response(error)

    def _count(self, name: str, status: int) -> None:
        count = self._counts.get((name, status))
        if count is None:
            count = self._metrics.hook_requests.labels(PREFIX + name, str(status)).inc
            self._counts[name, status] = count
        count()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _refuse_over_budget(self, body: Body, error: OverBudget | SenderOverBudget) -> Answer:
        """Answers at once: nothing is kept, and nothing waited for."""
        expected = problem(error)
        assert isinstance(expected, OverBudget)
        self._over_budget.note(_sender(body), expected)
        return _problem_answer(expected)

    async def _recover(self, name: str, body: Body, raw: bytes, error: BaseException) -> Answer:
        """Returns the answer to what went wrong. Raises nothing: without an answer EMQX would wait for ever."""
        try:
            expected = problem(error)
            if expected is None:
                return await _within(RECOVER_SECONDS, self._unexpected(name, body, raw, error))
            if expected.status == 400:
                return await _within(RECOVER_SECONDS, self._refuse(name, body, raw, expected))
        except Exception as failure:
            expected = problem(failure)
            if expected is None:
                log.error("hook_failed", hook=name, exc_info=failure)
                return _problem_answer(Problem("failed"))
        log.warning("hook_try_again", hook=name, code=expected.code, error=expected.message)
        return _problem_answer(expected)

    async def _refuse(self, name: str, body: Body, raw: bytes, error: Problem) -> Answer:
        """Keeps a request that can never succeed, and tells its sender. An authorizer's question is not kept."""
        if name == QUESTION:
            return _problem_answer(error)
        sender = _sender(body)
        try:
            if sender:
                self._budget.charge_refused(sender, len(raw), fields.received_at(body))
        except SenderOverBudget as over:
            ref = error.ref if isinstance(error, Refused) else ""
            return self._refuse_over_budget(body, OverBudget(ref, over.retry_after))
        kept = await self._dead_letters.keep(
            source=name, reason=error.code, message=error.message, sender=sender, body=raw
        )
        self._metrics.dead_letters.labels(error.code).inc()
        log.warning("dead_letter", hook=name, code=error.code, number=kept.number, sender=sender)
        if kept.tell and number(sender) is not None and isinstance(error, Refused):
            told = {"ref": error.ref, "code": error.code, "message": error.message}
            if isinstance(error, BadJson):
                told["topic"] = fields.text(body, "topic")
            self._outgoing.tell(sender, "im.error", told)
        return _problem_answer(error)

    async def _unexpected(self, name: str, body: Body, raw: bytes, error: BaseException) -> Answer:
        """Answers an unexpected error: the event is tried again, but not for ever."""
        log.error("hook_failed", hook=name, exc_info=error)
        fields = ("id",) if "id" in body else ("clientid", "event", "timestamp")
        event = repr((name, *map(body.get, fields)))
        failures = self._failures.pop(event, 0) + 1
        if failures > TRIES:
            ref = body.get("id")
            return await self._refuse(name, body, raw, Refused("internal", ref if isinstance(ref, str) else ""))
        self._failures[event] = failures
        return _problem_answer(Problem("failed"))


async def _within(seconds: float, work: Awaitable[Result]) -> Result:
    """Limits the time. EMQX waits for an answer without end: slower work is answered 503, and its retry is a
    repeat."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise StoreAway(f"no answer within {seconds:g} seconds") from None


def _sender(body: Body) -> str:
    """Returns the username; "" where there is none."""
    sender = body.get("username")
    return sender if isinstance(sender, str) and sender != UNDEFINED else ""


def _problem_answer(error: Problem) -> Answer:
    return Answer(error.status, error_body(error.code, error.message))
