"""Tests that anything that comes over the wire is a packet or a named end of the connection."""

import asyncio

import pytest
from amqtt.mqtt import PublishPacket, SubscribePacket, UnsubscribePacket
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.dev.packets import Connect, ConnectRefused, Ended, Will, decode_connect, receive, receive_connect


class Wire:
    """A connection that ends after these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, n: int = -1) -> bytes:
        if n > len(self._data):
            raise asyncio.IncompleteReadError(self._data, n)
        head, self._data = self._data[:n], self._data[n:]
        return head


def outcome(data: bytes) -> str:
    """Returns what a connection makes of these bytes, as its second packet and as its first."""
    results = []
    for read in (receive, receive_connect):
        try:
            asyncio.run(read(Wire(data)))
            results.append("packet")
        except Ended as ended:
            results.append(str(ended))
        except ConnectRefused:
            results.append("refused")
    return " ".join(results)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes(data: bytes) -> None:
    assert outcome(data)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.integers(0, 15),
    flags=st.integers(0, 15),
    body=st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"\x00\x04MQTT\x04", b"\x00\x01", b"\xc2\x00\x3c", b"\x00\x03a/b", b"\x00\x02\xff\xfe"]),
        ),
        max_size=6,
    ).map(b"".join),
)
def test_any_body_behind_any_header(kind: int, flags: int, body: bytes) -> None:
    assert outcome(bytes([kind << 4 | flags, len(body)]) + body)


_PACKETS = {
    "publish": PublishPacket.build("single/1", b"x", 7, False, 1, False).to_bytes(),
    "subscribe": SubscribePacket.build([("single/1", 1), ("a/#", 0)], 7).to_bytes(),
    "unsubscribe": UnsubscribePacket.build(["single/1"], 7).to_bytes(),
}


@pytest.mark.parametrize("name", _PACKETS)
def test_sound_packets(name: str) -> None:
    assert outcome(_PACKETS[name]) == "packet protocol_error"
    for cut in range(1, len(_PACKETS[name])):
        assert outcome(_PACKETS[name][:cut]) == "tcp_closed tcp_closed"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x30\x04\x00\x02\xff\xfe", "malformed_packet"),
        (b"\x30\x03\x00\x08a", "malformed_packet"),
        (b"\x36\x05\x00\x01a\x00\x01", "malformed_packet"),
        (b"\x32\x05\x00\x01a\x00\x00", "malformed_packet"),
        (b"\x82\x06\x00\x01\x00\x01a\x03", "malformed_packet"),
        (b"\x82\x05\x00\x01\x00\x01a", "malformed_packet"),
        (b"\xc0\x01\x00", "malformed_packet"),
        (b"\xf0\x00", "malformed_packet"),
        (b"\x00\x00", "malformed_packet"),
        (b"\x30\xff\xff\xff\xff\x01", "malformed_packet"),
        (b"\x30\x81\x80\x08", "frame_too_large"),
        (b"", "tcp_closed"),
    ],
)
def test_unsound_packets(data: bytes, reason: str) -> None:
    assert outcome(data).split()[0] == reason


def connect(flags: int, *fields: bytes) -> bytes:
    return b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c" + b"".join(len(f).to_bytes(2) + f for f in fields)


def test_connect() -> None:
    body = connect(0b1110_1110, b"phone", b"im/will/1", b"gone", b"1", b"token")
    assert asyncio.run(decode_connect(body)) == Connect(
        proto_name="MQTT",
        proto_ver=4,
        clean=True,
        keepalive=60,
        clientid="phone",
        username="1",
        password="token",
        will=Will("im/will/1", b"gone", 1, True),
    )
    assert asyncio.run(decode_connect(connect(2, b""))).clientid == ""


@pytest.mark.parametrize(
    "body",
    [
        connect(0b0000_0011, b"phone"),
        connect(0b0001_1110, b"phone", b"t", b"m"),
        connect(0b0000_0110, b"phone"),
        connect(0b1000_0010, b"phone"),
        connect(0b1100_0010, b"phone", b"1"),
        connect(0b0000_0010, b"phone", b"more"),
        b"\x00\x04MQ",
    ],
)
def test_malformed_connect(body: bytes) -> None:
    with pytest.raises(Ended):
        asyncio.run(decode_connect(body))
