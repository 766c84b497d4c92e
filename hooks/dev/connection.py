"""Handles the packets of one client's connection one after the other, in the order in which they came."""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import structlog
from amqtt.mqtt import (
    ConnackPacket,
    DisconnectPacket,
    PingReqPacket,
    PingRespPacket,
    PubackPacket,
    PubcompPacket,
    PublishPacket,
    PubrecPacket,
    PubrelPacket,
    SubackPacket,
    SubscribePacket,
    UnsubackPacket,
    UnsubscribePacket,
)

from hooks.dev import events, packets
from hooks.dev.authorization import Authorizer, Permissions, Question
from hooks.dev.bans import BanList
from hooks.dev.events import Columns, EventClient, EventMessage
from hooks.dev.faults import Faults
from hooks.dev.login import EmbeddedLogin
from hooks.dev.packet_writer import PacketWriter
from hooks.dev.packets import Connect, ConnectRefused, Ended, Will
from hooks.dev.rate import Pace
from hooks.dev.session import Session
from hooks.dev.topics import valid_filter, valid_name
from hooks.dev.transport import Transport

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 15
KILLED = "killed"
MAX_QOS = 1
_REFUSED_FILTERS = ("$share/", "$queue/", "$exclusive/")
_NOT_GRANTED = 0x80
_MAX_INCOMING = 16
_STEP_DOWN_SECONDS = {"kicked": 5, "discarded": 5, "takenover": 15}


class ServingBroker(Protocol):
    """The broker, as its connections use it."""

    @property
    def authorizer(self) -> Authorizer: ...
    @property
    def bans(self) -> BanList: ...
    @property
    def bytes_rate(self) -> int | None: ...
    @property
    def faults(self) -> Faults: ...
    @property
    def login(self) -> EmbeddedLogin: ...

    def emit(self, columns: Columns) -> None: ...
    def publish(self, message: EventMessage) -> int: ...
    def subscribe(self, session: Session, pattern: str, qos: int) -> int: ...
    def unsubscribe(self, session: Session, pattern: str) -> None: ...
    def opening(self, clientid: str) -> AbstractAsyncContextManager[object]: ...
    async def open_session(self, client: EventClient) -> tuple[Session, bool]: ...
    def release_session(self, session: Session, reason: str) -> None: ...


class Connection:
    def __init__(self, broker: ServingBroker, transport: Transport) -> None:
        self._broker = broker
        self._transport = transport
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Semaphore(_MAX_INCOMING)
        self._writer = PacketWriter(transport, self.end)
        self._end: str | None = None
        self._finished = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._greeting: asyncio.Task[Connect] | None = None
        self._will: Will | None = None
        self.client: EventClient
        self.session: Session
        self.permissions: Permissions

    async def serve(self) -> None:
        """Returns when the connection is closed and everybody concerned has been told."""
        self._serving = asyncio.current_task()
        writing = asyncio.create_task(self._writer.write())
        try:
            connect = await self._greeted()
            self.client, expires_at = await self._admitted(connect)
            await self._live(connect, expires_at)
        except ConnectRefused as refused:
            log.info("login_refused", peer=self._transport.peer, reason=str(refused))
            self.send(refused.answer)
        except Ended as ended:
            log.info("left_before_login", peer=self._transport.peer, reason=str(ended))
        except Exception:
            log.exception("connection_failed", peer=self._transport.peer)
        finally:
            self._writer.close()
            await asyncio.wait({writing}, timeout=1)
            writing.cancel()
            await self._transport.close()

    def end(self, reason: str) -> None:
        """Closes the connection after the packets that have arrived."""
        if self._end is None:
            self._end = reason
            if self._greeting is not None:
                self._greeting.cancel()
            self._incoming.put_nowait(reason)

    def act(self, action: Callable[[], object]) -> None:
        """Runs an operator's action in its turn, after the packets that have come; also if the connection ends then."""
        self._incoming.put_nowait(action)

    async def step_down(self, reason: str) -> None:
        """Ends the connection, and waits until will and disconnect are reported and the session is free.  A
        connection that does not end in time is killed, as EMQX kills its process, without any report.
        """
        self.end(reason)
        try:
            async with asyncio.timeout(_STEP_DOWN_SECONDS[reason]):
                await self._finished.wait()
        except TimeoutError:
            log.warning("killed", clientid=self.client.clientid, reason=reason)
            if self._serving is not None:
                self._serving.cancel()
            await self._finished.wait()

    def send(self, data: bytes) -> None:
        self._writer.send(data)

    def send_or_drop(self, data: bytes) -> None:
        if not self._writer.send_if_room(data):
            log.warning("reads_too_slowly", clientid=self.client.clientid)

    async def _greeted(self) -> Connect:
        """Returns the CONNECT. Raises Ended when none comes."""
        if self._end is not None:
            raise Ended(self._end)
        greeting = self._greeting = asyncio.create_task(packets.receive_connect(self._transport))
        try:
            await asyncio.wait({greeting}, timeout=CONNECT_SECONDS)
            if greeting.done() and not greeting.cancelled():
                return greeting.result()
            raise Ended(self._end or "idle_timeout")
        finally:
            greeting.cancel()

    async def _admitted(self, connect: Connect) -> tuple[EventClient, int | None]:
        """Returns the client, and when its login expires. Raises Refused and Ended before any session is touched."""
        if not connect.clientid and not connect.clean:
            raise ConnectRefused(packets.IDENTIFIER_REJECTED, "client_identifier_not_valid")
        if connect.will and (connect.will.qos > MAX_QOS or not valid_name(connect.will.topic)):
            raise ConnectRefused(packets.SERVER_UNAVAILABLE, "will not supported")
        clientid = f"{connect.username}-{connect.clientid or secrets.token_hex(8)}"
        if self._broker.bans.refuses(connect.username or "", clientid):
            raise ConnectRefused(packets.NOT_AUTHORIZED, "banned")
        expires_at = None
        if not self._broker.faults.booting:
            expires_at = await self._broker.login.check(connect.username, connect.password)
        host, port = self._transport.peer
        client = EventClient(
            clientid=clientid,
            username=connect.username or "undefined",
            peerhost=host,
            peername=f"{host}:{port}",
            sockname="{}:{}".format(*self._transport.local),
            proto_name=connect.proto_name,
            proto_ver=connect.proto_ver,
            keepalive=connect.keepalive,
            clean_start=connect.clean,
            auth_expire_at=None if expires_at is None else expires_at * 1000,
        )
        return client, expires_at

    async def _live(self, connect: Connect, expires_at: int | None) -> None:
        """Serves the client from the session's opening to its release."""
        client = self.client
        self._will = connect.will
        self.permissions = Permissions(self._broker.authorizer, client.username, client.clientid)
        async with self._broker.opening(client.clientid):
            self.session, present = await self._broker.open_session(client)
            client.connected_at = events.now_ms()
            self._broker.emit(events.connected(client))
            self.send(ConnackPacket.build(int(present), 0).to_bytes())
            self.session.resume(self)
        reason = "internal_error"
        try:
            reason = await self._converse(connect.keepalive, expires_at)
            await self._publish_will()
        except asyncio.CancelledError:
            reason = KILLED
            raise
        finally:
            while not self._incoming.empty():
                if callable(action := self._incoming.get_nowait()):
                    action()
            if reason != KILLED:
                self._broker.emit(events.disconnected(client, reason))
            self._broker.release_session(self.session, reason)
            self._finished.set()

    async def _converse(self, keepalive: int, expires_at: int | None) -> str:
        """Reads and handles packets until the connection ends; returns the reason."""
        reading = asyncio.create_task(self._read(keepalive))
        expiry = None
        if expires_at is not None:
            left = max(0.0, expires_at - time.time())
            expiry = asyncio.get_running_loop().call_later(left, self.end, "not_authorized")
        try:
            return await self._handle_all()
        finally:
            reading.cancel()
            if expiry is not None:
                expiry.cancel()

    async def _read(self, keepalive: int) -> None:
        """Feeds the handler. A client that is silent for one and a half times its keepalive is gone."""
        pace = Pace(self._broker.bytes_rate)
        try:
            while True:
                async with asyncio.timeout(keepalive * 1.5 if keepalive else None):
                    packet = await packets.receive(self._transport)
                await pace.keep(self._transport.received)
                await self._room.acquire()
                self._incoming.put_nowait(packet)
        except TimeoutError:
            self._incoming.put_nowait("keepalive_timeout")
        except Ended as ended:
            self._incoming.put_nowait(str(ended))

    async def _handle_all(self) -> str:
        """Takes packets and actions in turn until the connection ends; returns the reason."""
        try:
            while True:
                item = await self._incoming.get()
                if isinstance(item, str):
                    return item
                if callable(item):
                    item()
                    continue
                self._room.release()
                reason = await self._handle(item)
                if reason is not None:
                    return reason
        except Exception:
            log.exception("packet_failed", clientid=self.client.clientid)
            return "internal_error"

    async def _handle(self, packet: Any) -> str | None:
        """Returns the reason to close the connection, if there is one."""
        match packet:
            case PublishPacket():
                return await self._publish(packet)
            case PubackPacket():
                self.session.acknowledge(packet.variable_header.packet_id)
            case PubrelPacket():
                self.send(PubcompPacket.build(packet.variable_header.packet_id).to_bytes())
            case SubscribePacket():
                return await self._subscribe(packet.variable_header.packet_id, packet.payload.topics)
            case UnsubscribePacket():
                return self._unsubscribe(packet.variable_header.packet_id, packet.payload.topics)
            case PingReqPacket():
                self.send(PingRespPacket.build().to_bytes())
            case DisconnectPacket():
                self._will = None
                return "normal"
            case _:
                return "protocol_error"
        return None

    async def _publish(self, packet: PublishPacket) -> str | None:
        topic, qos, retain = packet.topic_name, packet.qos, packet.retain_flag
        if not valid_name(topic):
            return "topic_name_invalid"
        if await self.permissions.allows(Question("publish", topic, qos, retain)):
            if qos > MAX_QOS:
                return "qos_not_supported"
            if retain:
                return "retain_not_supported"
            self._broker.publish(
                EventMessage(
                    topic=topic,
                    payload=packet.data or b"",
                    qos=qos,
                    clientid=self.client.clientid,
                    username=self.client.username,
                    peerhost=self.client.peerhost,
                    peername=self.client.peername,
                    dup=packet.dup_flag,
                )
            )
        else:
            log.warning("publish_denied", clientid=self.client.clientid, topic=topic)
        # A denied publish is acknowledged too: MQTT 3.1.1 cannot express a refusal.
        if qos > 0:
            acknowledgement = PubackPacket if qos == 1 else PubrecPacket
            self.send(acknowledgement.build(packet.variable_header.packet_id).to_bytes())
        return None

    async def _subscribe(self, packet_id: int, wanted: list[tuple[str, int]]) -> str | None:
        if not wanted or not all(valid_filter(pattern) for pattern, _ in wanted):
            return "topic_filter_invalid"
        granted = [(pattern, await self._granted(pattern, qos)) for pattern, qos in wanted]
        for pattern, qos in granted:
            if qos != _NOT_GRANTED:
                self._broker.subscribe(self.session, pattern, qos)
        self.send(SubackPacket.build(packet_id, [qos for _, qos in granted]).to_bytes())
        return None

    async def _granted(self, pattern: str, qos: int) -> int:
        if pattern.startswith(_REFUSED_FILTERS):
            return _NOT_GRANTED
        if not await self.permissions.allows(Question("subscribe", pattern, qos)):
            log.warning("subscribe_denied", clientid=self.client.clientid, topic=pattern)
            return _NOT_GRANTED
        return min(qos, MAX_QOS)

    def _unsubscribe(self, packet_id: int, patterns: list[str]) -> str | None:
        if not patterns or not all(map(valid_filter, patterns)):
            return "topic_filter_invalid"
        for pattern in patterns:
            self._broker.unsubscribe(self.session, pattern)
        self.send(UnsubackPacket.build(packet_id).to_bytes())
        return None

    async def _publish_will(self) -> None:
        """Publishes the will. It is authorized now, not at the login; unlike a publish it has no peer."""
        will = self._will
        if will is None or self._broker.bans.refuses(self.client.username, self.client.clientid):
            return
        if not await self.permissions.allows(Question("publish", will.topic, will.qos, will.retain)):
            log.warning("will_denied", clientid=self.client.clientid, topic=will.topic)
            return
        self._broker.publish(
            EventMessage(
                topic=will.topic,
                payload=will.payload,
                qos=will.qos,
                clientid=self.client.clientid,
                username=self.client.username,
                retain=will.retain,
            )
        )
