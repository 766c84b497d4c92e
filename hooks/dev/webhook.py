"""Implements EMQX's HTTP action: sends what the rules selected to the service, in order for each client."""

import asyncio
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

import aiohttp
import structlog

from store.workers import Backoff

log = structlog.get_logger(__name__)

_TRY_AGAIN = {429, 503}
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=15)
_FIRST_PAUSE = 0.05
_MAX_PAUSE = 1.0


@dataclass(frozen=True, eq=False)
class Call:
    hook: str
    body: bytes


class WebhookCaller:
    """A queue per client, one request of each in flight.

    2xx is done; 429, 503 and a broken or silent connection are asked again until they are; any other status drops
    the call. `max_bytes` bounds what waits: beyond it the oldest calls are dropped.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._http = http
        self._url = f"{url}/hooks"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._max_bytes = max_bytes
        self._waiting_bytes = 0
        self._oldest: OrderedDict[Call, str] = OrderedDict()
        self._queues: dict[str, deque[Call]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}

    def put(self, client: str, hook: str, body: bytes) -> None:
        """Queues a call behind the client's earlier ones."""
        call = Call(hook, body)
        self._queues.setdefault(client, deque()).append(call)
        self._oldest[call] = client
        self._waiting_bytes += len(body)
        while self._waiting_bytes > self._max_bytes:
            self._drop_oldest()
        if client not in self._workers:
            self._workers[client] = asyncio.create_task(self._work(client), name=f"webhook {client}")

    async def drain(self, seconds: float) -> None:
        """Waits until everything is delivered, at most this long; what is left then is lost, and logged."""
        deadline = time.monotonic() + seconds
        while self._workers and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._workers.values(), timeout=left)
        unfinished = list(self._workers.values())
        lost = len(unfinished) + len(self._oldest)
        for worker in unfinished:
            worker.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        if unfinished:
            log.error("hook_calls_lost", calls=lost)

    def _drop_oldest(self) -> None:
        call, client = self._oldest.popitem(last=False)
        self._queues[client].remove(call)
        self._waiting_bytes -= len(call.body)
        log.error("buffer_overflow", clientid=client, hook=call.hook)

    async def _work(self, client: str) -> None:
        queue = self._queues[client]
        try:
            while queue:
                call = queue.popleft()
                del self._oldest[call]
                self._waiting_bytes -= len(call.body)
                await self._deliver(client, call)
        finally:
            del self._workers[client], self._queues[client]

    async def _deliver(self, client: str, call: Call) -> None:
        retry = Backoff(_FIRST_PAUSE, _MAX_PAUSE)
        while not await self._tried(client, call):
            pause = retry.pause()
            await asyncio.sleep(pause)

    async def _tried(self, client: str, call: Call) -> bool:
        """Returns whether the call is done with."""
        url = f"{self._url}/{call.hook}"
        try:
            async with self._http.post(url, data=call.body, headers=self._headers, timeout=_TIMEOUT) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("hook_away", hook=call.hook, error=repr(error))
            return False
        if status in _TRY_AGAIN:
            log.info("hook_not_now", hook=call.hook, status=status)
            return False
        if not 200 <= status < 300:
            log.error("hook_call_dropped", hook=call.hook, status=status, clientid=client)
        return True
