"""Hook calls as EMQX makes them: 64 queues, one request of each in flight, tried again until it is answered."""

import asyncio
import time
from collections import Counter
from typing import NamedTuple
from zlib import crc32

from store.cancellation import sleep_unless

_QUEUES = 64
_SILENCE_SECONDS = 10.0
"""The service answers within five seconds; a connection that says nothing for this long is broken."""
_PAUSE_SECONDS = 0.1
_AGAIN = (429, 503)

_HEAD = (
    "POST /hooks/{hook} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
    "Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
)


class Answer(NamedTuple):
    status: int
    body: bytes = b""


GIVEN_UP = Answer(0)


class Calls:
    """answered: when each 204 came."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._queues = [_Queue(self) for _ in range(_QUEUES)]
        self._statuses: Counter[str] = Counter()
        self.answered: list[float] = []
        self.given_up = asyncio.Event()

    async def deliver(self, client: str, hook: str, body: bytes) -> Answer:
        """Returns 204, 400, or a status that EMQX would take for the end although it is not; `GIVEN_UP` at the end."""
        queue = self._queues[crc32(client.encode()) % _QUEUES]
        request = _HEAD.format(hook=hook, token=self._token, length=len(body)).encode() + body
        async with queue.turn:
            while not self.given_up.is_set():
                answer = await queue.ask(request)
                self._statuses["broken connection" if answer is None else str(answer.status)] += 1
                if answer is not None:
                    if answer.status == 204:
                        self.answered.append(time.monotonic())
                    if answer.status not in _AGAIN:
                        return answer
                await sleep_unless(self.given_up, _PAUSE_SECONDS)
        return GIVEN_UP

    def take_statuses(self) -> Counter[str]:
        """Returns how often each status was answered since this was asked last, and how many connections broke."""
        taken, self._statuses = self._statuses, Counter()
        return taken

    def close(self) -> None:
        for queue in self._queues:
            queue.close()


class _Queue:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.turn = asyncio.Lock()

    async def ask(self, request: bytes) -> Answer | None:
        """Returns None if the connection broke, or nobody answers."""
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._calls._port)
                reader, writer = self._streams
                writer.write(request)
                return await _read(reader)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError):
            self.close()
            return None
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = await reader.readexactly(length) if length else b""
    return Answer(int(head.split(b" ", 2)[1]), body)
