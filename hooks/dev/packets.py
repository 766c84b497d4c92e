"""MQTT 3.1.1 packets on the wire: amqtt's codecs, behind checks that they leave out."""

import struct
from dataclasses import dataclass
from typing import Any, Protocol

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.connack import (
    BAD_USERNAME_PASSWORD,
    IDENTIFIER_REJECTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    UNACCEPTABLE_PROTOCOL_VERSION,
    ConnackPacket,
)
from amqtt.mqtt.connect import ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.packet import CONNECT, PUBLISH, SUBSCRIBE, MQTTFixedHeader

__all__ = ["BAD_USERNAME_PASSWORD", "IDENTIFIER_REJECTED", "NOT_AUTHORIZED", "SERVER_UNAVAILABLE"]

MAX_PACKET_BYTES = 131_072
PROTOCOLS = {("MQTT", 4), ("MQIsdp", 3)}

_NOT_SUPPORTED_BY_VERSION_5 = bytes([0x20, 0x03, 0x00, 0x84, 0x00])
_UNDECODABLE = (AMQTTError, CodecError, MQTTError, NoDataError, ValueError, struct.error)


class Reader(Protocol):
    """A transport's receiving side."""

    async def read(self, n: int = -1) -> bytes:
        """Returns exactly `n` bytes; raises IncompleteReadError or OSError when the peer is gone."""


class Ended(Exception):
    """The connection cannot go on; the message is EMQX's reason for the disconnect."""


class ConnectRefused(Exception):
    """A CONNECT that is not let in; `answer` is the CONNACK to send."""

    def __init__(self, code: int, reason: str, answer: bytes | None = None) -> None:
        super().__init__(reason)
        self.answer: bytes = answer or ConnackPacket.build(0, code).to_bytes()


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True)
class Connect:
    """`keepalive` in seconds, 0 for none; an empty `clientid` asks for one."""

    proto_name: str
    proto_ver: int
    clean: bool
    keepalive: int
    clientid: str
    username: str | None
    password: str | None
    will: Will | None


async def receive(reader: Reader) -> Any:
    """Returns the next packet, as one of amqtt's classes. Raises Ended."""
    header, body = await _frame(reader)
    return await decode(header, body)


async def receive_connect(reader: Reader) -> Connect:
    """Returns the first packet of a connection. Raises Ended, or Refused for a version that is not spoken here."""
    header, body = await _frame(reader)
    if header.packet_type != CONNECT:
        raise Ended("protocol_error")
    return await decode_connect(body)


async def _frame(reader: Reader) -> tuple[MQTTFixedHeader, bytes]:
    try:
        header = await MQTTFixedHeader.from_stream(reader)
        if header is None:
            raise Ended("tcp_closed")
        if header.remaining_length > MAX_PACKET_BYTES:
            raise Ended("frame_too_large")
        return header, await reader.read(header.remaining_length) if header.remaining_length else b""
    except (EOFError, OSError):
        raise Ended("tcp_closed") from None
    except MQTTError:
        raise Ended("malformed_packet") from None


async def decode(header: MQTTFixedHeader, body: bytes) -> Any:
    """Returns the packet that `body` holds. Raises Ended when it is malformed.

    amqtt reads past truncated fields, ignores what follows them, and takes text that is not UTF-8: only what
    encodes to the same bytes again is what the client meant.
    """
    try:
        packet = await packet_class(header).from_stream(BufferReader(body), header)
        encoded = b"".join(
            [
                packet.variable_header.to_bytes() if packet.variable_header else b"",
                packet.payload.to_bytes(packet.fixed_header, packet.variable_header) if packet.payload else b"",
            ]
        )
    except _UNDECODABLE:
        raise Ended("malformed_packet") from None
    identified = getattr(packet.variable_header, "packet_id", None) != 0
    if encoded != body or not identified or not _has_valid_qos(packet):
        raise Ended("malformed_packet")
    return packet


def _has_valid_qos(packet: Any) -> bool:
    match packet.fixed_header.packet_type:
        case t if t == PUBLISH:
            return bool(packet.qos < 3)
        case t if t == SUBSCRIBE:
            return all(qos < 3 for _, qos in packet.payload.topics)
    return True


async def decode_connect(body: bytes) -> Connect:
    reader = BufferReader(body)
    try:
        head = await ConnectVariableHeader.from_stream(reader, None)
        protocol = (head.proto_name, head.proto_level)
        if protocol not in PROTOCOLS:
            # A client of version 5 understands only a CONNACK of version 5: 0x84, unsupported protocol version.
            version_5 = protocol == ("MQTT", 5)
            answer = _NOT_SUPPORTED_BY_VERSION_5 if version_5 else None
            raise ConnectRefused(UNACCEPTABLE_PROTOCOL_VERSION, "unsupported_protocol_version", answer)
        payload = await ConnectPayload.from_stream(reader, None, head)
    except _UNDECODABLE:
        raise Ended("malformed_packet") from None
    present = [
        (head.will_flag, payload.will_message),
        (head.username_flag, payload.username),
        (head.password_flag, payload.password),
    ]
    missing = any(flag and value is None for flag, value in present)
    if missing or head.reserved_flag or head.will_qos == 3 or await reader.read(1):
        raise Ended("malformed_packet")
    return Connect(
        proto_name=head.proto_name,
        proto_ver=head.proto_level,
        clean=head.clean_session_flag,
        keepalive=head.keep_alive,
        clientid="" if payload.client_id_is_random else payload.client_id,
        username=payload.username,
        password=payload.password,
        will=Will(payload.will_topic, payload.will_message, head.will_qos, head.will_retain_flag)
        if head.will_flag
        else None,
    )
