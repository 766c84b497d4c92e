"""Serves HTTP as EMQX speaks it, without the cost of the general case. A webhook request in the one shape that EMQX
sends (one request at a time, a `Content-Length`, nothing unusual) is answered here; for anything else the connection
is handed to aiohttp, with the bytes that have arrived. So only aiohttp judges requests that are ambiguous or
malformed.
"""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, cast

from hooks.errors import RETRY_SECONDS
from hooks.http.aiohttp_connection import AiohttpConnection
from hooks.http.crowd import Crowd
from hooks.metrics import Metrics
from hooks.webhook.dispatcher import MAX_BODY, Answer, Webhook

_MAX_HEAD = 4096
_MAX_PIECES = 64
"""A request in more pieces goes to aiohttp, because joining them would cost too much."""
_REMEMBERED_HEADS = 4096

_START = b"POST /hooks/"
_REQUEST_LINE = re.compile(rb"POST /hooks/([a-z_]{1,32}) HTTP/1\.1")
_HEADER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)[ \t]*"
)
_LENGTH = re.compile(rb"[0-9]{1,7}")
_UNUSUAL = frozenset([b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"])

_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class RequestHead(NamedTuple):
    """The path's name, and the bytes of the body."""

    name: str
    length: int


class Heads:
    """Reads requests' heads; those seen before, which are nearly all, by looking them up."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self._seen: dict[bytes, RequestHead] = {}

    def read(self, head: bytes) -> RequestHead | None:
        """Returns the head of an authorized webhook request in the usual shape, else None.

        `head`: without its empty line.
        """
        known = self._seen.get(head)
        if known is not None:
            return known
        read = self._read(head)
        if read is not None:
            if len(self._seen) >= _REMEMBERED_HEADS:
                self._seen.clear()
            self._seen[head] = read
        return read

    def _read(self, head: bytes) -> RequestHead | None:
        first, *lines = head.split(b"\r\n")
        request = _REQUEST_LINE.fullmatch(first)
        if request is None or not self._webhook.handles(name := request[1].decode()):
            return None
        headers: dict[bytes, bytes] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            if header is None or (key := header[1].lower()) in headers or key in _UNUSUAL:
                return None
            headers[key] = header[2]
        length = _LENGTH.fullmatch(headers.get(b"content-length", b""))
        if length is None or int(length[0]) > MAX_BODY:
            return None
        if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        if not self._webhook.accepts(headers.get(b"authorization", b"").decode("utf-8", "surrogateescape")):
            return None
        return RequestHead(name, int(length[0]))


class HookConnection(asyncio.Protocol):
    """One connection. others: makes the protocol that takes over everything that is not answered here.  crowd: where
    it is counted until it has presented a token. request_seconds: within which a request has to arrive.
    """

    def __init__(
        self,
        webhook: Webhook,
        heads: Heads,
        others: Callable[[Crowd | None], AiohttpConnection],
        connections: set["HookConnection"],
        metrics: Metrics,
        crowd: Crowd | None,
        request_seconds: float,
    ) -> None:
        self._webhook = webhook
        self._heads = heads
        self._others = others
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._waiting = b""
        self._pieces = 0
        self._busy = False
        self._closed: asyncio.Future[None] | None = None
        self._ended = metrics.connections_ended
        self._crowd = crowd
        self._request_seconds = request_seconds
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not derive from it
        self._connections.add(self)
        if self._crowd is not None:
            self._crowd.on_connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._expect_nothing()
        self._be_no_stranger()
        self._connections.discard(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    async def close(self) -> None:
        """Closes at once, or after the answer to the request that is being handled."""
        self._closed = asyncio.get_running_loop().create_future()
        if self._transport is None:
            return
        if not self._busy:
            self._transport.close()
        await self._closed

    def data_received(self, data: bytes) -> None:
        if self._waiting:
            data = self._waiting + data
        if self._busy:
            self._waiting = data
            if len(data) > MAX_BODY and self._transport is not None:
                self._transport.pause_reading()
            return
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Answers the request in `data`, waits for the rest of it, or hands over."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            usual = data.startswith(_START) or _START.startswith(data)
            return self._wait(data) if usual and len(data) <= _MAX_HEAD else self._hand_over(data)
        head = self._heads.read(data[:end]) if end <= _MAX_HEAD else None
        if head is None:
            return self._hand_over(data)
        if self._crowd is not None:
            self._be_no_stranger()
        end += 4
        missing = end + head.length - len(data)
        if missing > 0:
            return self._wait(data)
        if missing < 0:
            return self._hand_over(data)
        self._waiting = b""
        self._pieces = 0
        self._busy = True
        self._expect_nothing()
        return self._webhook.answer(head.name, data[end:], self._reply)

    def _wait(self, data: bytes) -> None:
        self._waiting = data
        self._pieces += 1
        if self._pieces > _MAX_PIECES:
            self._hand_over(data)
        elif self._late is None:
            self._late = asyncio.get_running_loop().call_later(self._request_seconds, self._end_late)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end_late(self) -> None:
        self.make_room("request_late")

    def make_room(self, reason: str) -> None:
        assert self._transport is not None
        self._ended.labels(reason).inc()
        self._transport.abort()

    def _be_no_stranger(self) -> None:
        if self._crowd is not None:
            self._crowd.gone(self)
            self._crowd = None

    def _reply(self, answer: Answer) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.write(_NO_CONTENT if answer.status == 204 else _bytes(answer))
        self._busy = False
        if self._closed is not None:
            transport.close()
        elif self._waiting:
            data, self._waiting = self._waiting, b""
            transport.resume_reading()
            self._read(data)

    def _hand_over(self, data: bytes) -> None:
        transport, self._transport = self._transport, None
        assert transport is not None
        self._expect_nothing()
        self._connections.discard(self)
        other = self._others(self._crowd)
        if self._crowd is not None:
            self._crowd.replace(self, other)
        transport.set_protocol(other)
        other.connection_made(transport)
        other.data_received(data)


def _bytes(answer: Answer) -> bytes:
    retry = b"Retry-After: %d\r\n" % RETRY_SECONDS if answer.status == 503 else b""
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b" % (
        answer.status,
        HTTPStatus(answer.status).phrase.encode(),
        len(answer.body),
        retry,
        answer.body,
    )
