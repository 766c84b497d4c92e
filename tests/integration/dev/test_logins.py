"""Tests who may log in to the embedded broker, with which token, version and clientid."""

import asyncio
import time

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests.integration.dev.conftest import Embedded, RawClient, connect_packet, received, signed, token, until


async def test_a_wrong_login_disturbs_nobody(embedded: Embedded) -> None:
    async with embedded.client("1002") as victim:
        await victim.subscribe("single/1002", qos=1)
        for password in ("wrong", token("1001"), token("1002", exp=int(time.time()) - 10), None):
            with pytest.raises(aiomqtt.MqttCodeError) as refused:
                await embedded.client("1002", password=password).__aenter__()
            assert refused.value.rc == ReasonCode(
                PacketTypes.CONNACK, "Not authorized" if password in (None, "wrong") else "Bad user name or password"
            )
        async with embedded.client("1001") as sender:
            await sender.publish("single/1002", b"still here", qos=1)
        assert (await received(victim, 1))[0][1] == b"still here"
    assert "client.disconnected discarded" not in embedded.service.of("1002-phone")


async def test_the_same_clientid_of_another_user_is_another_session(embedded: Embedded) -> None:
    async with embedded.client("1002", "phone", clean_session=False) as victim:
        await victim.subscribe("single/1002", qos=1)
    async with embedded.client("1001", "phone", clean_session=False):
        assert set(embedded.broker.sessions) == {"1001-phone", "1002-phone"}
        assert embedded.broker.sessions["1001-phone"].subscriptions == {}


async def test_a_login_ends_with_its_token(embedded: Embedded) -> None:
    client = await embedded.raw("1001", password=token("1001", exp=int(time.time()) + 2))
    assert await client.receive() == b""
    await until(lambda: embedded.service.of("1001-raw")[-1] == "client.disconnected not_authorized")
    client.abort()


async def test_version_5_is_refused_in_its_own_words(embedded: Embedded) -> None:
    with pytest.raises(aiomqtt.MqttCodeError) as refused:
        await embedded.client("1001", protocol=aiomqtt.ProtocolVersion.V5).__aenter__()
    assert refused.value.rc == ReasonCode(PacketTypes.CONNACK, "Unsupported protocol version")
    assert not embedded.broker.sessions


@pytest.mark.parametrize("level", [2, 6, 0x84])
async def test_other_versions_are_refused(embedded: Embedded, level: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    writer.write(connect_packet("1001", "phone", level=level))
    assert await reader.read() == b"\x20\x02\x00\x01"
    writer.close()


async def test_an_empty_clientid_gets_one_only_with_a_clean_session(embedded: Embedded) -> None:
    async with embedded.client("1001", ""):
        [clientid] = embedded.broker.sessions
        assert clientid.startswith("1001-")
        assert len(clientid) > 10
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    writer.write(connect_packet("1001", "", clean=False))
    assert await reader.read() == b"\x20\x02\x00\x02"
    writer.close()


NOW = int(time.time())


HEAD = b'{"alg":"HS256"}'


CLAIMS = b'{"sub":"1001","exp":%d}' % (NOW + 6000)


@pytest.mark.parametrize(
    ("password", "answer"),
    [
        (token("1001", exp=NOW + 6000), 0),
        (token("1001", exp=str(NOW + 6000)), 0),
        (token("1001", exp=10**10), 0),
        (signed(b'{"sub":"1001"}'), 0),
        (token("1001", exp=NOW + 6000, iat=NOW + 5000, aud="x", nbf=NOW - 1.5), 0),
        (signed(CLAIMS, b'{"alg":"HS256","kid":5,"crit":["x"]}'), 0),
        (signed(b'{"sub":"1002","exp":%d,"sub":"1001"}' % (NOW + 6000)), 0),
        (token("1001", exp=NOW - 5), 4),
        (token("1001", exp=NOW + 6000, nbf=NOW + 5000), 4),
        (token("1002", exp=NOW + 6000), 4),
        (signed(b'{"exp":%d}' % (NOW + 6000)), 4),
        (signed(b'{"sub":1001,"exp":%d}' % (NOW + 6000)), 4),
        (signed(b'{"sub":"1001","exp":null}'), 4),
        (token("1001", exp=f" {NOW + 6000}"), 4),
        (token("1001", exp=NOW + 6000.5), 5),
        (token("1001", exp=f"{NOW + 6000}.5"), 5),
        (signed(CLAIMS, secret="another secret that is long enough"), 5),
        (signed(CLAIMS, b'{"typ":"JWT"}'), 5),
        (signed(CLAIMS, b'{"alg":"none"}'), 5),
        (signed(CLAIMS) + ".x", 5),
        ("garbage", 5),
        (token("1001", exp=NOW * 1000), None),
        (token("1001", exp=10**400), None),
    ],
    # Explicit names: a token contains the time, and every process must collect the same tests.
    ids=map(str, range(23)),
)
async def test_who_enters_by_which_token_as_seen_on_emqx(embedded: Embedded, password: str, answer: int | None) -> None:
    """5 for what EMQX cannot verify, 4 for what is verified and wrong, and no answer where its process fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", embedded.mqtt_port)
    client = RawClient(reader, writer)
    await client.send(connect_packet("1001", "phone", password=password))
    assert await client.receive() == (b"" if answer is None else bytes([0x20, 0, answer]))
    client.abort()


async def test_tokens_of_16_kib_enter(embedded: Embedded) -> None:
    longest = token("1001", padding="x" * 12_100)
    assert 16_000 < len(longest) <= 16_384
    async with embedded.client("1001", password=longest) as client:
        await client.subscribe("single/1001", qos=1)
    with pytest.raises(aiomqtt.MqttCodeError):
        await embedded.client("1001", password=token("1001", padding="x" * 13_000)).__aenter__()
