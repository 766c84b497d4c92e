"""The device itself: connection after connection, the pull beside it, and what the service tells it to do."""

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

import aiohttp
import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from hooks.device.backoff import Backoff
from hooks.device.cancellation import cancel, heed_cancellation, until_one_fails
from hooks.device.errors import Unauthorized
from hooks.device.events import Event, Message, Received, live
from hooks.device.inbox import ROOM, Inbox
from hooks.device.outbox import Outbox
from hooks.device.pull import PullAway, Puller
from hooks.device.sending import NothingAnswered, Sender
from hooks.device.state import Outgoing, State
from hooks.device.trusted import delivered, sending_topic

_log = logging.getLogger(__name__)

PULL_EVERY = (240.0, 360.0)
"""Seconds between pulls that nothing asked for."""

AGAIN_AFTER = 2.0
"""Seconds after a connection's first pull begins that it pulls again: what the broker routed just before it knew of the
subscription, and the service stored just after that pull, is there by then, or an `im.sync` tells of it."""

_GRANTED = (0, 1)
_BAD_LOGIN = (4, 5, 134, 135)
"""CONNACK codes for a refused password or user, as MQTT 3.1.1 numbers them and as paho renumbers them."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where MQTT is spoken; with `tls` over TLS."""

    host: str
    port: int = 1883
    tls: SSLContext | None = None


class Device:
    """One device of one user, connected from `async with` to its end; iterate over it for its events.

    token: called for a JWT at each connection and pull, so that it may be renewed; url: the service's
    address, without `/pull`; clientid: names the device among all of the user's, the same over restarts, by default the
    state's own id; clean_session: False lets the broker keep messages for the device while it is away; patience:
    seconds until a message is given up; trusted_send: the service and its broker run with IM_TRUSTED_SEND.
    """

    def __init__(
        self,
        uid: int,
        token: Callable[[], str],
        broker: Broker,
        url: str,
        state: State,
        *,
        clientid: str | None = None,
        clean_session: bool = True,
        patience: float = 3600,
        trusted_send: bool = False,
    ) -> None:
        self.uid = uid
        self._token = token
        self._broker = broker
        self._url = url
        self._clientid = clientid or state.saved.device
        self._clean_session = clean_session
        self._trusted_send = trusted_send
        self._topic = f"single/{uid}"
        self._inbox = Inbox(state)
        self._outbox = Outbox(uid, state, patience, self._inbox.tell)
        self._sender = Sender(self._outbox)
        self._subscribed = set[str]()
        self._pull_wanted = asyncio.Event()
        self._secret: str | None = None
        self._unjudged: deque[Message] = deque(maxlen=ROOM)
        self._failure: Exception | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._puller = Puller(session, self._url, self._token)
        running = asyncio.create_task(self._run())
        self._stack.push_async_callback(cancel, running)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._inbox.done()
        await self._stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. Raises Unauthorized or PullRefused when the device cannot go on."""
        return await self._inbox.next()

    async def send(self, topic: str, body: Any, *, type: str = "text") -> int:  # noqa: A002
        """Sends a message and waits until it is stored: its `mid`.

        Raises Refused, Unanswered, Unauthorized, ValueError for a topic that nobody can publish to. A message over the
        sender's budget is kept, and sent again when the service says. To keep an order, await one before the next.
        What this device sent does not come back as an event.
        """
        return await self.publish(topic, {"type": type, "body": body})

    async def publish(self, topic: str, fields: dict[str, Any]) -> int:
        """Sends as `send` does, with any fields: group commands. `id`, `from` and `ack` are the device's."""
        if self._failure is not None:
            raise self._failure
        outgoing = self._outbox.compose(topic, fields)
        # Before it is saved: a later run that sends it again knows it for its own, too.
        self._inbox.remember(live(topic, outgoing.payload.encode(), 1), stored=True)
        self._outbox.add(outgoing)
        return await self._outbox.answer(outgoing)

    async def settled(self) -> None:
        """Waits until everything stored before has been dealt with, and everything sent is answered.

        For that somebody must be iterating; where the device cannot go on, it is the iteration that raises.
        """
        await self._inbox.caught_up.wait()
        await self._outbox.empty()

    async def _run(self) -> None:
        pauses = Backoff(0.5, 30)
        try:
            while True:
                try:
                    await self._connect(pauses)
                except MqttConnectError as error:
                    if _code(error.rc) in _BAD_LOGIN:
                        raise Unauthorized(f"the broker refuses user {self.uid}: {error}") from error
                    _log.info("%s: %s", self._topic, error)
                except (aiomqtt.MqttError, NothingAnswered) as error:
                    _log.info("%s: %s", self._topic, error)
                await asyncio.sleep(pauses.pause())
        except Exception as failure:
            self._failure = failure
            self._inbox.fail(failure)
            self._outbox.fail(failure)

    async def _connect(self, pauses: Backoff) -> None:
        """One connection, until it breaks: MqttError. DeviceError is for what will not mend itself."""
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=self._clientid,
            username=str(self.uid),
            password=self._token(),
            clean_session=self._clean_session,
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=self._broker.tls,
            keepalive=30,
        )
        async with client:
            self._inbox.hold()
            topics = (self._topic, "business/global")
            granted = await client.subscribe([(topic, 1) for topic in topics])
            heed_cancellation()
            self._subscribed = {topic for topic, code in zip(topics, granted, strict=True) if _code(code) in _GRANTED}
            if self._topic not in self._subscribed:
                raise Unauthorized(f"the broker refuses a subscription to {self._topic}")
            pauses.reset()
            await until_one_fails(self._listen(client), self._keep_pulling(client), self._keep_sending(client))

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            arrived = (str(message.topic), payload, message.qos)
            if self._trusted_send and (sent := delivered(*arrived)):
                self._offer_sent(sent)
            else:
                await self._hear(client, live(*arrived))

    async def _keep_sending(self, client: aiomqtt.Client) -> None:
        async def publish(outgoing: Outgoing) -> None:
            topic = sending_topic(outgoing.topic) if self._trusted_send else outgoing.topic
            await client.publish(topic, outgoing.payload, qos=1, timeout=math.inf)
            heed_cancellation()

        await self._sender.keep_sending(publish)

    def _offer_sent(self, message: Message) -> None:
        """The broker says who sent it; whoever plays the service is not heard."""
        if not (message.type or "").startswith("im."):
            self._offer(Received(message, confirmed=True))

    async def _hear(self, client: aiomqtt.Client, message: Message) -> None:
        """A live message; the service's own are true only with its secret, which the first pull brings."""
        if not (message.type or "").startswith("im."):
            self._offer(Received(message, confirmed=False))
        elif self._secret is None:
            self._unjudged.append(message)
        elif message.secret == self._secret and message.topic == self._topic:
            await self._obey(client, message)

    def _offer(self, received: Received) -> None:
        if not self._inbox.offer(received):
            self._pull_wanted.set()

    async def _obey(self, client: aiomqtt.Client, message: Message) -> None:
        body = message.body if isinstance(message.body, dict) else {}
        match message.type:
            case "im.ack":
                self._outbox.acknowledged(body)
            case "im.error":
                self._outbox.refused(body)
            case "im.sync":
                self._pull_up_to(body["head"])
            case "im.subscribe":
                new = [entry["topic"] for entry in body["topics"] if entry["topic"] not in self._subscribed]
                if new:
                    await self._subscribe(client, new)
                    self._pull_wanted.set()  # what came between the last pull and now
                self._pull_up_to(body["head"])
            case "im.unsubscribe":
                topics = [entry["topic"] for entry in body["topics"]]
                await client.unsubscribe(topics)
                self._subscribed.difference_update(topics)
                heed_cancellation()
            case _:
                self._offer(Received(message, confirmed=True))

    def _pull_up_to(self, head: int) -> None:
        """The service says that there are messages up to `head`."""
        if head > self._inbox.position.cursor:
            self._pull_wanted.set()

    async def _subscribe(self, client: aiomqtt.Client, topics: list[str]) -> None:
        """In packets that no broker finds too large. A refused topic still comes by the pull."""
        for start in range(0, len(topics), 100):
            batch = topics[start : start + 100]
            granted = await client.subscribe([(topic, 1) for topic in batch])
            heed_cancellation()
            for topic, code in zip(batch, granted, strict=True):
                if _code(code) in _GRANTED:
                    self._subscribed.add(topic)
                else:
                    _log.warning("%s: the broker refuses a subscription to %s", self._topic, topic)

    async def _keep_pulling(self, client: aiomqtt.Client) -> None:
        clock = asyncio.get_running_loop().time
        again_at = clock() + AGAIN_AFTER
        while True:
            self._pull_wanted.clear()
            await self._pull_to_the_end(client)
            now = clock()
            due = again_at if now < again_at else now + random.uniform(*PULL_EVERY)  # noqa: S311
            try:
                async with asyncio.timeout_at(due):
                    await self._pull_wanted.wait()
            except TimeoutError:
                continue

    async def _pull_to_the_end(self, client: aiomqtt.Client) -> None:
        """Live messages wait behind the pages, but not for a service that is away."""
        pauses = Backoff(0.5, 30)
        more = True
        while more:
            self._inbox.hold()
            try:
                page = await self._puller.page(self._inbox.position)
            except PullAway as away:
                _log.info("%s: %s", self._topic, away)
                self._inbox.release()
                await asyncio.sleep(max(away.retry_after, pauses.pause()))
                continue
            pauses.reset()
            self._secret = page.key
            for _ in range(len(self._unjudged)):
                await self._hear(client, self._unjudged.popleft())
            await self._inbox.take(page)
            more = page.more
        self._inbox.release()


def _code(reason: Any) -> int | None:
    """paho's reason codes are objects, or plain numbers where it passes on the packet's."""
    code = getattr(reason, "value", reason)
    return code if isinstance(code, int) else None
