"""Serves an HTTP connection with aiohttp, but with its own answers and log lines for malformed requests.  aiohttp
repeats what it cannot read in its log and in its answer, and a header that cannot be read may contain a token. So
nothing that came with a request is repeated here: an error is named only by its class.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from hooks.errors import Problem, error_response
from hooks.http.aiohttp_private import AiohttpHandler
from hooks.http.crowd import Crowd
from hooks.http.origins import Origins
from hooks.metrics import Metrics

_MAX_FIELD = 24 * 1024
"""Bytes of one header's value: tokens may have 16 KiB."""
_LINGER_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Bounds(NamedTuple):
    """Limits of a port's connections.  line, head: bytes of a request's first line, and of its whole head.
    idle_seconds: between two requests. request_seconds: until a head is complete; and how long a body may be silent.
    hurried: the first head has to arrive in that time after the connection, too. write_seconds: how long a client may
    read nothing of its answer.
    """

    line: int
    head: int
    idle_seconds: float
    request_seconds: float
    hurried: bool
    write_seconds: float


class AiohttpConnection(AiohttpHandler):
    """One connection. crowd: where it is counted; None: it is not counted."""

    def __init__(
        self, server: web.Server, origins: Origins, metrics: Metrics, bounds: Bounds, crowd: Crowd | None
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none
            keepalive_timeout=bounds.idle_seconds,
            max_line_size=bounds.line,
            max_field_size=_MAX_FIELD,
        )
        self._bounds = bounds
        self._crowd = crowd
        self._origins = origins
        self._ended = metrics.connections_ended
        self._unread_bytes = metrics.unread_bytes
        self._wire: asyncio.Transport | None = None
        self._lost: asyncio.Future[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._unread = 0
        self._reading: asyncio.TimerHandle | None = None
        self._head = b""
        """The first part of a head that is not whole yet."""
        self._head_length = 0
        self._malformed = False
        self._body: StreamReader = EMPTY_PAYLOAD
        self._waiting: asyncio.Task[Any] | None = None

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Cancels the task that waits inside once the client is gone, or sends more, which would hide that it is
        gone.  A client that closes only its own side counts as gone. Raises ConnectionResetError if it is gone
        already.
        """
        if self.transport is None:
            raise ConnectionResetError("the client is gone")
        self._waiting = asyncio.current_task()
        try:
            yield
        finally:
            self._waiting = None

    @property
    def asked_for_more(self) -> bool:
        """Returns whether another request has come behind the one that is being answered."""
        return bool(self.unanswered)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)  # uvloop's is one, but does not derive from it
        # Whatever the kernel does not take makes the answer wait: it is counted, and watched.
        self._wire.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        if self._bounds.hurried:
            self._expect_more()
        if self._crowd is not None:
            self._crowd.on_connected(self)

    def make_room(self, reason: str) -> None:
        assert self._wire is not None
        self._ended.labels(reason).inc()
        self._wire.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        self._forget_unread()
        super().resume_writing()

    def _watch_unread(self) -> None:
        """Ends the connection once its client has read nothing for as long as it may."""
        assert self._wire is not None
        waiting = self._wire.get_write_buffer_size()
        if self._reading is not None and waiting == self._unread:
            self._forget_unread()
            self.make_room("unread")
            return
        self._unread_bytes.inc(waiting - self._unread)
        self._unread = waiting
        self._reading = self.loop.call_later(self._bounds.write_seconds, self._watch_unread)

    def _forget_unread(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            self._unread_bytes.dec(self._unread)
            self._unread = 0

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_unread()
        self._expect_nothing()
        if self._crowd is not None:
            self._crowd.gone(self)
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._waiting is not None:
            self.force_close()
            return
        if self._malformed:
            return
        ends = data.endswith(b"\r\n\r\n")
        whole = ends and not self._head_length and self._body is EMPTY_PAYLOAD
        if not whole and self._body.is_eof():
            self._head = self._head or data
            self._head_length += len(data)
        requests = self.read_count
        try:
            super().data_received(data)
        except Exception as error:
            # The event loop would log the whole error, with the parts of the request that are in it.
            self.log_exception("", exc_info=error)
            self.force_close()
            return
        if whole and len(data) <= self._bounds.head and self.read_count == requests + 1:
            request, body = self.unanswered[-1]
            if body is EMPTY_PAYLOAD and isinstance(request, RawRequestMessage):
                # Nearly all requests: a head that arrived complete and alone.
                if self._late is not None:
                    self._expect_nothing()
                if self._crowd is not None:
                    self._crowd.busy(self)
                return
        if whole:
            self._head = data
            self._head_length = len(data)
        if self.read_count > requests:
            request, self._body = self.unanswered[-1]
            self._malformed = not isinstance(request, RawRequestMessage)
            if isinstance(request, RawRequestMessage):
                self._begin_request(request, data)
        if not self._body.is_eof():
            self._expect_nothing()
            self._expect_more()
        elif self._head and not self._malformed:
            self._go_on_with_head()
        else:
            self._expect_nothing()

    def _begin_request(self, request: RawRequestMessage, data: bytes) -> None:
        """Begins a request whose head is complete. data: the end of the head, and what came with it."""
        if self._head_length > self._bounds.head and _head_bytes(request) > self._bounds.head:
            self.unanswered.pop()
            self._body = EMPTY_PAYLOAD
            self._refuse_head()
            return
        self._head = b""
        self._head_length = 0
        if self._crowd is not None:
            self._crowd.busy(self)
        if self._body is EMPTY_PAYLOAD and not data.endswith(b"\r\n\r\n"):
            self._head = data.rpartition(b"\r\n\r\n")[2]
            self._head_length = len(self._head)
        elif self._body is not EMPTY_PAYLOAD and self._bounds.hurried:
            # Nothing here takes a body, so it is not searched for a following request.
            self.close()

    def _go_on_with_head(self) -> None:
        if self._head_length > self._bounds.head:
            self._refuse_head()
            return
        if self._late is None:
            self._expect_more()
        if self._crowd is not None:
            self._crowd.began(self, self._head_length)

    def _expect_more(self) -> None:
        self._late = self.loop.call_later(self._bounds.request_seconds, self._end_late)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end_late(self) -> None:
        """Ends a connection whose head has not come in time, or whose body is silent, unless it is not being read."""
        self._late = None
        if not self._body.is_eof() and self.is_reading_paused:
            self._expect_more()
        elif self._body.is_eof():
            self.make_room("head_late")
        else:
            self.make_room("body_late")

    def _refuse_head(self) -> None:
        """Has aiohttp refuse a head that is too long as a whole, which it does not check, after the current
        answer."""
        self._malformed = True
        self._expect_nothing()
        self.answer_error(431, LineTooLong("", self._bounds.head))

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Logs that a request was answered."""
        if self._crowd is not None and not self.unanswered:
            self._crowd.idle(self)

    async def linger(self) -> None:
        """Lets a client that is still sending read its answer: a connection closed before that is reset."""
        if self._wire is None or self._wire.is_closing():
            return
        self._lost = self.loop.create_future()
        self._wire.write_eof()
        await asyncio.wait([self._lost], timeout=_LINGER_SECONDS)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Returns the answer to what aiohttp could not read, or to an error that nothing else answered; the last one
        here.

        Raises ConnectionError if an answer has begun.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        if isinstance(exc, HttpProcessingError):
            code = "head_too_large" if isinstance(exc, LineTooLong) else "bad_request"
            log.info("request_malformed", code=code, error=type(exc).__name__, peer=request.remote)
            self._ended.labels(code).inc()
        else:
            code = "error"
            self.log_exception("", exc_info=exc)
        response = _LastAnswer(self, error_response(Problem(code)))
        response.headers["Cache-Control"] = "no-store"
        response.headers.update(self._origins.of_head(self._head))
        response.force_close()
        return response

    def log_exception(self, *args: Any, exc_info: BaseException | None = None, **rest: Any) -> None:
        """Logs an error by its class and where it was raised; its message may hold what was sent.

        A client that has gone is not an error.
        """
        if isinstance(exc_info, ConnectionError):
            log.info("client_left", error=type(exc_info).__name__)
            return
        frames = traceback.extract_tb(exc_info.__traceback__) if exc_info is not None else []
        at = [f"{frame.filename}:{frame.lineno}" for frame in frames[-3:]]
        log.error("connection_failed", error=type(exc_info).__name__, at=at)


def _head_bytes(request: RawRequestMessage) -> int:
    return len(request.path) + sum(len(name) + len(value) + 4 for name, value in request.raw_headers)


class _LastAnswer(web.Response):
    """An answer after which the connection ends, though its client may still be sending."""

    def __init__(self, connection: AiohttpConnection, answer: web.Response) -> None:
        super().__init__(status=answer.status, body=answer.body, headers=answer.headers)
        self._connection = connection

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        await self._connection.linger()
