"""An HTTP connection as aiohttp serves it, with answers and log lines of our own where a request is malformed.

aiohttp repeats what it cannot read, in its log and in its answer, and a header that cannot be read may hold a token. So
nothing that came with a request is repeated here: an error is named by its class alone.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Iterator
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from hooks.errors import Problem, error_response
from hooks.metrics import Metrics
from hooks.origins import Origins

LONGEST_LINE = 256 * 1024
"""Bytes of a request's first line: `/admin/presence` takes 10,000 users."""
LONGEST_FIELD = 24 * 1024
"""Bytes of one header's value: tokens may have 16 KiB."""
IDLE_SECONDS = 3600
"""Connections are the broker's to close: one that the server closes first costs a retry."""

log = structlog.get_logger(__name__)


class AiohttpConnection(web.RequestHandler):
    """One connection. write_seconds: how long a client may take nothing of its answer."""

    def __init__(self, server: web.Server, origins: Origins, metrics: Metrics, *, write_seconds: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none
            keepalive_timeout=IDLE_SECONDS,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_FIELD,
        )
        self._origins = origins
        self._ended = metrics.connections_ended
        self._unread_bytes = metrics.unread_bytes
        self._write_seconds = write_seconds
        self._wire: asyncio.Transport | None = None
        self._unread = 0
        self._reading: asyncio.TimerHandle | None = None
        self._head = b""
        self._malformed = False
        self._body: StreamReader = EMPTY_PAYLOAD
        self._waiting: asyncio.Task[Any] | None = None

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Cancels the task that waits inside once the client is gone, or asks for more, which would hide that it is.

        A client that ends only its own side counts as gone. Raises ConnectionResetError when it is gone already.
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
        """Whether another request has come behind the one that is being answered."""
        return bool(self._messages)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)  # uvloop's is one, but does not derive from it
        # Whatever the kernel does not take makes the answer wait: it is counted, and watched.
        self._wire.set_write_buffer_limits(high=0)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        self._forget_unread()
        super().resume_writing()

    def _watch_unread(self) -> None:
        """Ends the connection once its client has taken nothing for as long as it may."""
        assert self._wire is not None
        waiting = self._wire.get_write_buffer_size()
        if self._reading is not None and waiting == self._unread:
            self._forget_unread()
            self._ended.labels("unread").inc()
            self._wire.abort()
            return
        self._unread_bytes.inc(waiting - self._unread)
        self._unread = waiting
        self._reading = self._loop.call_later(self._write_seconds, self._watch_unread)

    def _forget_unread(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            self._unread_bytes.dec(self._unread)
            self._unread = 0

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_unread()
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        if self._waiting is not None:
            self.force_close()
            return
        if self._malformed:
            return
        if self._body.is_eof():
            self._head += data
        requests = self._request_count
        try:
            super().data_received(data)
            if self._request_count > requests:
                request, self._body = self._messages[-1]
                self._malformed = not isinstance(request, RawRequestMessage)
                if not self._malformed:
                    self._head = b""
        except Exception as error:
            # The event loop would log the error as it stands, with what of the request is in it.
            self.log_exception("", exc_info=error)
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what aiohttp could not read, or to an error that nothing else answered; the last one here.

        Raises ConnectionError where an answer has begun.
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
        response = error_response(Problem(code))
        response.headers["Cache-Control"] = "no-store"
        response.headers.update(self._origins.of_head(self._head))
        response.force_close()
        return response

    def log_exception(self, *args: Any, exc_info: BaseException | None = None, **rest: Any) -> None:
        """Logs an error by its class and where it was raised; its message may hold what was sent."""
        frames = traceback.extract_tb(exc_info.__traceback__) if exc_info is not None else []
        at = [f"{frame.filename}:{frame.lineno}" for frame in frames[-3:]]
        log.error("connection_failed", error=type(exc_info).__name__, at=at)
