"""Senders as EMQX brings their messages, and devices that read them: what each was answered is what it may rely on."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import orjson

from tests.integration.app import message_body, token

ANSWER_SECONDS = 10
"""The broker is answered within five seconds; the machine may be busy."""
_PAUSE_SECONDS = 0.02
_MIN_BETWEEN = 0.002
"""Seconds a sender rests after each message, so that a long load has not too many to compare."""

_HEADERS = {"Authorization": "Bearer hook-token-1", "Content-Type": "application/json"}


class Message(NamedTuple):
    """One message, as its sender and its receivers know it."""

    topic: str
    sender: str
    id: str

    def reaches(self, uid: str) -> bool:
        return self.topic in (f"single/{uid}", "business/global") or (self.sender == uid and "single/" in self.topic)


class Load:
    """Clients that publish without a pause, each with one request in flight, tried again until it is answered.

    answered: what was answered 204, in this order for each sender, and when (seconds, monotonic).
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, users: Iterable[str], random: Random) -> None:
        self._http = http
        self._url = f"{url}/hooks/message"
        self._users = tuple(users)
        self._random = random
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._stopping = asyncio.Event()
        self._senders: list[asyncio.Task[None]] = []
        self.answered: dict[Message, float] = {}

    def start(self) -> None:
        self._stopping.clear()
        self._senders = [asyncio.create_task(self._send(sender)) for sender in (*self._users, "ops")]

    async def stop(self) -> None:
        """Ends the load: requests in flight are tried until they are answered."""
        self._stopping.set()
        await asyncio.gather(*self._senders)
        self._senders = []

    async def cancel(self) -> None:
        await _cancel(self._senders)

    async def until_answered(self, count: int) -> None:
        """So many more; raises what a sender met."""
        goal = len(self.answered) + count
        async with asyncio.timeout(30):
            while len(self.answered) < goal:
                self.check()
                await asyncio.sleep(0.01)

    def check(self) -> None:
        """Raises what a sender met."""
        for sender in self._senders:
            if sender.done():
                sender.result()

    async def publish(self, topic: str, sender: str, payload: Mapping[str, Any]) -> Message:
        """Posts one message until it is answered 204."""
        body = message_body(topic, dict(payload), sender)
        message = Message(topic, sender, payload.get("id", body["id"]))
        raw = orjson.dumps(body)
        while not await self._done(raw):  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_SECONDS)
        self.answered.setdefault(message, time.monotonic())
        return message

    async def once(self) -> bool:
        """Posts one message once; returns whether it was answered 204."""
        topic, sender = f"single/{self._users[0]}", self._users[1]
        self._numbers[sender] += 1
        payload = {"id": uuid4().hex, "body": self._numbers[sender]}
        done = await self._done(orjson.dumps(message_body(topic, payload, sender)))
        if done:
            self.answered[Message(topic, sender, str(payload["id"]))] = time.monotonic()
        return done

    async def _send(self, sender: str) -> None:
        while not self._stopping.is_set():
            self._numbers[sender] += 1
            topic = "business/global" if sender == "ops" else f"single/{self._random.choice(self._users)}"
            payload = {"type": "text", "body": self._numbers[sender], "ack": self._random.random() < 0.5}
            if self._random.random() < 0.9:
                payload["id"] = uuid4().hex
            await self.publish(topic, sender, payload)
            if "id" in payload and self._random.random() < 0.1:
                # As a client that has not seen its `im.ack`.
                await self.publish(topic, sender, payload)
            await asyncio.sleep(_MIN_BETWEEN if sender != "ops" else 10 * _MIN_BETWEEN)

    async def _done(self, raw: bytes) -> bool:
        """False: EMQX would keep it and ask again."""
        in_time = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with self._http.post(self._url, data=raw, headers=_HEADERS, timeout=in_time) as answer:
                status, text = answer.status, await answer.read()
        except TimeoutError:
            raise AssertionError("the broker waits for an answer") from None
        except (aiohttp.ClientError, OSError):
            return False
        assert status in (204, 503), (status, text)
        return status == 204


class Device:
    """One device's chain of pulls, as a client holds it: a cursor, the epoch, and what it was given.

    held: in order, each message once. ids: of these. highest: of all cursors it ever held. epochs: those it was told
    of. repeats: whether a message may come again, as it may once the store has lost something.
    """

    def __init__(
        self, http: aiohttp.ClientSession, url: str, uid: str, random: Random, *, repeats: bool = False
    ) -> None:
        self.uid = uid
        self._http = http
        self._url = f"{url}/pull"
        self._headers = {"Authorization": f"Bearer {token(uid)}"}
        self._random = random
        self._going: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._repeats = repeats
        self.cursor = 0
        self.highest = 0
        self.epoch = ""
        self.epochs: list[str] = []
        self.held: dict[Message, Any] = {}
        self.ids: list[int] = []

    def start(self) -> None:
        self._stopping.clear()
        self._going = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        self._stopping.set()
        assert self._going is not None
        await self._going

    async def cancel(self) -> None:
        if self._going is not None:
            await _cancel([self._going])

    async def to_the_end(self, limit: int | None = None) -> None:
        """Pulls until there is no more; `limit` for each page, or a random one."""
        while await self.page(limit or self._random.randint(1, 1000)):
            pass

    async def _go_on(self) -> None:
        while not self._stopping.is_set():
            try:
                await self.page(self._random.randint(1, 300), self._random.choice((0, 1)))
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def page(self, limit: int, wait: int = 0) -> bool:
        """Pulls once; returns whether there is more."""
        arguments = {"last_id": str(self.cursor), "limit": str(limit), "wait": str(wait), "epoch": self.epoch}
        async with self._http.get(self._url, params=arguments, headers=self._headers) as answer:
            status, raw = answer.status, await answer.read()
        if status == 503:
            await asyncio.sleep(_PAUSE_SECONDS)
            return True
        assert status == 200, (status, raw)
        page = orjson.loads(raw)
        self._take(page, limit)
        return bool(page["more"])

    def _take(self, page: dict[str, Any], limit: int) -> None:
        """Handles an answer as a client does; raises AssertionError where the answer breaks a promise."""
        reset = page.get("reset", False)
        assert reset == (self.epoch != "" and page["epoch"] != self.epoch)
        assert len(page["messages"]) <= limit
        last = 0 if reset else self.cursor
        for each in page["messages"]:
            assert each["last_id"] == each["mid"] > last, "ids increase strictly, and lie above the cursor"
            last = each["mid"]
            message = Message(each["topic"], each["from"], each["id"])
            if message in self.held:
                assert self._repeats, f"{message} came twice"
                continue
            assert last > self.highest, "an id below a cursor that was held"
            self.held[message] = each["payload"]["body"]
            self.ids.append(last)
        assert page["last_id"] >= last
        assert not page["truncated"]
        self.cursor = page["last_id"]
        self.highest = max(self.highest, self.cursor)
        if page["epoch"] != self.epoch:
            self.epoch = page["epoch"]
            self.epochs.append(self.epoch)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def assert_in_order(device: Device) -> None:
    """Checks that each sender's messages are in the order in which they were sent."""
    latest: dict[str, int] = {}
    for message, number in device.held.items():
        assert latest.get(message.sender, 0) < number, message
        latest[message.sender] = number
