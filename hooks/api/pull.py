"""Serves `GET /pull`: everything that a user may see after their cursor."""

import asyncio
import re
import time
from base64 import b64encode
from collections import Counter, OrderedDict
from typing import Any

import orjson
from aiohttp import web

from hooks.api.arguments import integer
from hooks.api.room import Place, Room
from hooks.errors import Problem
from hooks.http.aiohttp_connection import AiohttpConnection
from hooks.http.origins import Origins
from hooks.metrics import Metrics
from hooks.tokens.bearer import UserTokens, receiver_key
from store.addresses import MAX_ID
from store.record import Message, Shared
from store.redis.memory import StoreMemory
from store.redis.shards import Shards
from store.timelines.pull import Pulled, Puller
from store.timelines.summary import Timelines
from store.timelines.wakeups import Wakeups

MAX_WAITING = 4
_REMEMBERED_USERS = 100_000
_EPOCH = re.compile(r"[!-~]{0,64}", re.ASCII)


class PullRate:
    """A token bucket per user: `rate` a second, and a burst of as many."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(rate, 1.0)
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def take(self, uid: int) -> bool:
        now = time.monotonic()
        tokens, since = self._buckets.pop(uid, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[uid] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _REMEMBERED_USERS:
            self._buckets.popitem(last=False)
        return allowed


class PullApi:
    def __init__(
        self,
        puller: Puller,
        timelines: Timelines,
        wakeups: Shards[Wakeups],
        tokens: UserTokens,
        memory: StoreMemory,
        metrics: Metrics,
        *,
        secret: str,
        rate: float,
        room: Room,
        origins: Origins,
    ) -> None:
        self._puller = puller
        self._timelines = timelines
        self._wakeups = wakeups
        self._tokens = tokens
        self._memory = memory
        self._metrics = metrics
        self._secret = secret
        self._rate = PullRate(rate)
        self._room = room
        self._origins = origins
        self._waiting: Counter[int] = Counter()
        self.draining = False

    async def respond(self, request: web.Request) -> web.Response:
        """Raises Problem, StoreError."""
        try:
            return await self._respond(request)
        except Problem as refused:
            self._metrics.pulls_refused.labels(refused.code).inc()
            raise

    async def _respond(self, request: web.Request) -> web.Response:
        started = time.perf_counter()
        uid = await self._tokens.uid(request.headers.get("Authorization", ""))
        cursor = integer(request, "last_id", None, 0, MAX_ID)
        limit = integer(request, "limit", 200, 1, 1000)
        wait = integer(request, "wait", 0, 0, 60)
        epoch, *others = request.query.getall("epoch", [""])
        if others or _EPOCH.fullmatch(epoch) is None:
            raise Problem("bad_argument", "`epoch` is not an epoch")
        if self.draining:
            raise Problem("shutting_down")
        connection = request.protocol
        assert isinstance(connection, AiohttpConnection)
        place = self._room.place(uid)
        try:
            if not self._rate.take(uid):
                raise Problem("too_many_pulls")
            if wait and not connection.asked_for_more:
                with connection.wait():
                    pulled = await self._wait(place, uid, cursor, limit, epoch, wait)
            else:
                await place.take()
                pulled = await self._puller.pull(uid, cursor, limit, epoch)
                self._metrics.pull_seconds.observe(time.perf_counter() - started)
            body = render(pulled, receiver_key(self._secret, uid), writes_wait=self._memory.writes_wait)
            del pulled
            place.fill(len(body))
            return await self._sent(request, body)
        finally:
            place.leave()

    async def _sent(self, request: web.Request, body: bytes) -> web.Response:
        """Returns the answer, once the client has read it, or is gone."""
        headers = {"Content-Type": "application/json", **self._origins.of_request(request)}
        response = web.Response(body=body, headers=headers)
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            # aiohttp notices that again, and ends the connection.
            pass
        return response

    async def _wait(self, place: Place, uid: int, cursor: int, limit: int, epoch: str, seconds: int) -> Pulled:
        """Returns what there is once there is something, or the time is over. While it waits it takes no place."""
        if self._waiting[uid] >= MAX_WAITING:
            raise Problem("too_many_waiting")
        self._waiting[uid] += 1
        self._metrics.waiting_pulls.inc()
        deadline = time.monotonic() + seconds
        try:
            while True:
                # Again after each wakeup that brought nothing: the user may read another channel by now.
                names = [str(uid), *await self._timelines.channels(uid)]
                async with self._wakeups.of(uid).watch(names) as written:
                    written.clear()
                    await place.take()
                    pulled = await self._puller.pull(uid, cursor, limit, epoch)
                    left = deadline - time.monotonic()
                    if pulled.messages or pulled.states or pulled.reset or left <= 0 or self.draining:
                        return pulled
                    place.leave()
                    try:
                        async with asyncio.timeout(left):
                            await written.wait()
                    except TimeoutError:
                        return pulled
        finally:
            self._waiting[uid] -= 1
            if not self._waiting[uid]:
                del self._waiting[uid]
            self._metrics.waiting_pulls.dec()


def render(pulled: Pulled, key: str, *, writes_wait: bool = False) -> bytes:
    """Returns the answer as JSON; a payload that is JSON is put in as the bytes that came."""
    tail: dict[str, Any] = {
        "last_id": pulled.last_id,
        "more": pulled.more,
        "truncated": pulled.truncated,
        "epoch": pulled.epoch,
    }
    if pulled.states:
        tail["states"] = [state.fields() for state in pulled.states]
    if pulled.reset:
        tail["reset"] = True
    if writes_wait:
        tail["writes_wait"] = True
    return b'{"messages":[%b],%b' % (
        b",".join([_message(message) for message in pulled.messages]),
        orjson.dumps({**tail, "key": key})[1:],
    )


def _message(message: Message) -> bytes:
    if not isinstance(message, Shared):
        return _rendered(message)
    if not message.rendered:
        message.rendered = _rendered(message)
    return message.rendered


def _rendered(message: Message) -> bytes:
    payload = message.payload if message.json else b'"%b"' % b64encode(message.payload)
    name = b"payload" if message.json else b"payload_b64"
    if message.recalled_by:
        name, payload = b"recalled", orjson.dumps({"by": message.recalled_by, "at": message.replaced})
    elif message.replaced:
        payload += b',"edited":%d' % message.replaced
    return b'{"last_id":%d,"mid":%d,"topic":%b,"from":%b,"id":%b,"qos":1,"ts":%d,"%b":%b}' % (
        message.mid,
        message.mid,
        orjson.dumps(message.topic),
        orjson.dumps(message.sender),
        orjson.dumps(message.client_id),
        message.ts,
        name,
        payload,
    )
