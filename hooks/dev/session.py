"""Keeps a client's state beyond one connection: subscriptions, and messages that are not acknowledged yet."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog
from amqtt.mqtt import PublishPacket

from hooks.dev.authorization import Permissions
from hooks.dev.events import RECEIVE_MAXIMUM, EventClient, EventMessage

log = structlog.get_logger(__name__)

MAX_QUEUED = 1000


class ClientConnection(Protocol):
    """The connection of a session's client."""

    permissions: Permissions

    def act(self, action: Callable[[], object]) -> None:
        """Runs an operator's action in its turn."""

    def send(self, data: bytes) -> None: ...

    def send_or_drop(self, data: bytes) -> None:
        """Sends, unless too much waits already."""

    async def step_down(self, reason: str) -> None:
        """Ends the connection; returns when its session is free."""


class Session:
    """`subscriptions` maps a filter to the QoS granted. `connection` is None while the client is away."""

    def __init__(self, client: EventClient) -> None:
        self.client = client
        self.connection: ClientConnection | None = None
        self.subscriptions: dict[str, int] = {}
        self.expiry: asyncio.TimerHandle | None = None
        self._queue: deque[EventMessage] = deque()
        self._in_flight: dict[int, EventMessage] = {}
        self._packet_id = 0

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def act(self, action: Callable[[], object]) -> None:
        """Runs an operator's action: now, or after the packets of the client that have come."""
        if self.connection is None:
            action()
        else:
            self.connection.act(action)

    def deliver(self, message: EventMessage, granted: int) -> None:
        """Delivers at the lower QoS of message and subscription. QoS 1 waits for its turn, QoS 0 does not wait."""
        if min(message.qos, granted) == 0:
            if self.connection is not None:
                self.connection.send_or_drop(_packet(message, None))
        elif self.connection is None or self._queue or len(self._in_flight) >= RECEIVE_MAXIMUM:
            self._enqueue(message)
        else:
            self._send_next(self.connection, message)

    def acknowledge(self, packet_id: int) -> None:
        if self._in_flight.pop(packet_id, None) is not None:
            self._dequeue()

    def resume(self, connection: ClientConnection) -> None:
        """Attaches the connection: what it has not acknowledged comes again, then what has waited."""
        self.connection = connection
        for packet_id, message in self._in_flight.items():
            connection.send(_packet(message, packet_id, again=True))
        self._dequeue()

    def _enqueue(self, message: EventMessage) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._queue.popleft()
            log.warning("queue_full", clientid=self.client.clientid)
        self._queue.append(message)

    def _dequeue(self) -> None:
        while self.connection and self._queue and len(self._in_flight) < RECEIVE_MAXIMUM:
            self._send_next(self.connection, self._queue.popleft())

    def _send_next(self, connection: ClientConnection, message: EventMessage) -> None:
        self._packet_id = self._packet_id % 65_535 + 1
        while self._packet_id in self._in_flight:
            self._packet_id = self._packet_id % 65_535 + 1
        self._in_flight[self._packet_id] = message
        connection.send(_packet(message, self._packet_id))


def _packet(message: EventMessage, packet_id: int | None, again: bool = False) -> bytes:
    qos = 0 if packet_id is None else 1
    encoded: bytes = PublishPacket.build(message.topic, message.payload, packet_id, again, qos, False).to_bytes()
    return encoded
