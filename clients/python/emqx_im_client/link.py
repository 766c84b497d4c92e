"""One MQTT connection, on aiomqtt. It ends when the broker is silent, however long anything else takes."""

import asyncio
import logging
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from emqx_im_client.aiomqtt_private import disconnected, notice_early_ends, paho_of
from emqx_im_client.cancellation import heed_cancellation

CONNECT_SECONDS = 30
"""For the TCP connection, for each step of TLS, and then for the broker's answer."""

KEEPALIVE = 30
"""Seconds without a byte from the broker after which it is asked whether it is there; as long again, and it is gone."""

GOODBYE_SECONDS = 3
"""For leaving in an orderly way."""

_GRANTED = (0, 1)
_BAD_LOGIN = (4, 5, 134, 135)
"""CONNACK codes for a refused password or user, as MQTT 3.1.1 numbers them and as paho renumbers them."""
_UNSPECIFIED = 128

T = TypeVar("T")

_silent = logging.getLogger("emqx_im_client.aiomqtt")
_silent.setLevel(logging.CRITICAL + 1)
"""aiomqtt logs the answer to what was cancelled as an error."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where MQTT is spoken; with `tls` over TLS."""

    host: str
    port: int = 1883
    tls: SSLContext | None = None


class LinkDown(Exception):
    """There is no connection, or no longer. refused: the broker takes neither user nor token, or does not yet."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Link:
    """A connection to the broker, from `async with` to its end. Raises LinkDown if it breaks."""

    def __init__(self, broker: Broker, username: str, password: str, clientid: str, *, clean_session: bool) -> None:
        self._where = f"{broker.host}:{broker.port}"
        self._username = username
        self._client = aiomqtt.Client(
            broker.host,
            broker.port,
            identifier=clientid,
            username=username,
            password=password,
            clean_session=clean_session,
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=broker.tls,
            keepalive=KEEPALIVE,
            timeout=CONNECT_SECONDS,
            logger=_silent,
        )
        paho_of(self._client).connect_timeout = CONNECT_SECONDS

    async def __aenter__(self) -> Self:
        notice_early_ends(self._client)
        opening = asyncio.create_task(self._client.__aenter__())
        try:
            await asyncio.shield(opening)
        except MqttConnectError as error:
            refused = _code(error.rc) in _BAD_LOGIN
            who = f"user {self._username}" if refused else "the connection"
            raise LinkDown(f"the broker refuses {who}: {error}", refused=refused) from error
        except aiomqtt.MqttError as error:
            self._hang_up()
            raise LinkDown(f"the broker at {self._where} cannot be reached: {error}") from error
        except asyncio.CancelledError:
            # A thread is connecting. Its connection must not go on when nobody knows of it.
            self._hang_up()
            opening.add_done_callback(self._hang_up)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.timeout = GOODBYE_SECONDS
        ended = disconnected(self._client)
        if ended.done() and not ended.cancelled():
            ended.exception()  # known already; asyncio complains where nobody asked
        try:
            await self._client.__aexit__(kind, error, traceback)
        except aiomqtt.MqttError:
            self._hang_up()
        heed_cancellation()

    async def subscribe(self, topics: Sequence[str]) -> list[bool]:
        """Asks for the topics with QoS 1; returns which of them are granted."""
        wanted = [(topic, 1) for topic in topics]
        codes = await self._answered(self._client.subscribe(wanted, timeout=math.inf))
        return [_code(code) in _GRANTED for code in codes]

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        await self._answered(self._client.unsubscribe(list(topics), timeout=math.inf))

    async def publish(self, topic: str, payload: str) -> None:
        """Publishes with QoS 1; returns when the broker has it."""
        await self._answered(self._client.publish(topic, payload, qos=1, timeout=math.inf))

    async def receive(self) -> tuple[str, bytes, int]:
        """Waits for the next delivery; returns its topic, payload and QoS."""
        try:
            message = await anext(self._client.messages)
        except aiomqtt.MqttError as error:
            raise self._lost(error) from error
        return str(message.topic), message.payload if isinstance(message.payload, bytes) else b"", message.qos

    async def _answered(self, asking: Coroutine[Any, Any, T]) -> T:
        """Waits for the broker's answer, or for the connection's end, of which aiomqtt does not tell who waits."""
        task = asyncio.create_task(asking)
        ends: list[asyncio.Future[Any]] = [task, disconnected(self._client)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._lost(disconnected(self._client).exception())
            return task.result()
        except aiomqtt.MqttError as error:
            raise self._lost(error) from error
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    def _lost(self, error: BaseException | None) -> LinkDown:
        cause = error and (error.__cause__ or error)
        # paho says no more than "unspecified" of one that was closed at the other end.
        named = cause is not None and _code(getattr(cause, "rc", None)) != _UNSPECIFIED
        why = f": {cause}" if named else ""
        return LinkDown(f"the connection to the broker at {self._where} is lost{why}")

    def _hang_up(self, opening: asyncio.Task[Any] | None = None) -> None:
        if opening is not None and not opening.cancelled():
            opening.exception()
        paho_of(self._client).disconnect()


def _code(reason: Any) -> int | None:
    """paho's reason codes are objects, or plain numbers where it passes on the packet's."""
    code = getattr(reason, "value", reason)
    return code if isinstance(code, int) else None
