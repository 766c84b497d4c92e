"""Sends a message through the whole chain: MQTT to EMQX, webhook, Redis, acknowledgement back by MQTT, pull."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import aiohttp
import aiomqtt

from hooks.doctor import Finding, fail, ok
from hooks.mqtt_address import MqttAddress
from store.addresses import Inbox, SendTopic

PROBE = "probe"
SECONDS = 15
_MEND = "see the findings above, the service's log and its dead letters"
_LOGIN_REFUSED = (4, 5, 134, 135)
"""CONNACK codes for a refused password or user, as MQTT 3.1.1 numbers them and as paho renumbers them."""


class _ProbeFailed(Exception):
    """Says in a sentence what stands in the way."""


async def probe(
    broker: MqttAddress,
    url: str,
    uid: int,
    token: Callable[[], str],
    seconds: float = SECONDS,
    *,
    trusted_send: bool = False,
) -> list[Finding]:
    """Sends a message from the user to themselves; the finding says how long each step took."""
    started = time.monotonic()
    topic = (SendTopic(Inbox(uid)) if trusted_send else Inbox(uid)).topic
    try:
        async with asyncio.timeout(seconds):
            mid = await _acknowledged(broker, uid, token(), topic)
            acknowledged = time.monotonic()
            await _pulled(url, uid, token(), mid)
    except TimeoutError:
        late = f"a message through {broker} was not acknowledged and pulled within {seconds:.0f} s"
        return [fail(PROBE, late, _MEND)]
    except (_ProbeFailed, aiohttp.ClientError, OSError) as error:
        return [fail(PROBE, f"a message failed: {error or type(error).__name__}", _MEND)]
    sent, pulled = 1000 * (acknowledged - started), 1000 * (time.monotonic() - acknowledged)
    return [ok(PROBE, f"connected, sent, stored and acknowledged in {sent:.0f} ms; pulled in {pulled:.0f} ms")]


async def _acknowledged(broker: MqttAddress, uid: int, token: str, topic: str) -> int:
    """Returns the id under which the service stored the message. Raises _ProbeFailed."""
    clientid, ref = f"doctor-{uuid4().hex[:8]}", uuid4().hex
    try:
        async with aiomqtt.Client(
            broker.host,
            broker.port,
            username=str(uid),
            password=token,
            identifier=clientid,
            tls_context=broker.tls,
            timeout=SECONDS,
        ) as client:
            granted = await client.subscribe(Inbox(uid).topic, qos=1)
            if any(int(code if isinstance(code, int) else code.value) >= 128 for code in granted):
                raise _ProbeFailed(f"EMQX refuses the subscription to {Inbox(uid).topic}")
            message = {"id": ref, "type": "doctor", "body": {"text": "emqx-im doctor"}, "ack": True}
            await client.publish(topic, json.dumps(message), qos=1)
            async for heard in client.messages:
                if (mid := _answer(heard.payload, ref)) is not None:
                    return mid
    except aiomqtt.MqttError as error:
        if isinstance(error, aiomqtt.MqttCodeError) and _code(error.rc) in _LOGIN_REFUSED:
            raise _ProbeFailed(f"{broker} refuses user {uid}: {error}") from error
        raise _ProbeFailed(f"the connection to {broker} failed: {error}") from error
    raise _ProbeFailed(f"{broker} stopped sending")


def _code(code: Any) -> int:
    return int(getattr(code, "value", code))


def _answer(payload: Any, ref: str) -> int | None:
    """Returns the id of the message with this `ref`, where this acknowledges it.

    Raises _ProbeFailed where it refuses it.
    """
    try:
        notice = json.loads(payload)
        body = notice["body"] if str(notice["type"]).startswith("im.") else {}
    except (ValueError, TypeError, KeyError):
        return None
    match notice["type"], body:
        case "im.ack", {"id": str(acknowledged), "mid": int(mid)} if acknowledged == ref:
            return mid
        case "im.error", {"ref": str(refused), "code": code, "message": text} if refused in (ref, ""):
            raise _ProbeFailed(f"refused: {code}: {text}")
    return None


async def _pulled(url: str, uid: int, token: str, mid: int) -> None:
    """Raises _ProbeFailed where the pull does not bring the message, ClientError where there is none."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{url}/pull", params={"last_id": str(mid - 1), "limit": "1"}) as answer,
    ):
        answer.raise_for_status()
        page = await answer.json()
    if [message["mid"] for message in page["messages"]] != [mid]:
        raise _ProbeFailed(f"it was acknowledged as {mid} to user {uid}, but is not in the pull")
