"""A message through the whole chain: MQTT to EMQX, webhook, Redis, acknowledgement back by MQTT, pull."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp

from hooks.doctor import Finding, fail, ok

if TYPE_CHECKING:
    from emqx_im_client import Broker

PROBE = "probe"
SECONDS = 15
_MEND = "the findings above say where the chain is broken; else see the service's log and its dead letters"


async def probe(
    broker: "Broker",
    url: str,
    uid: int,
    token: Callable[[], str],
    seconds: float = SECONDS,
    *,
    trusted_send: bool = False,
) -> list[Finding]:
    """Sends a message from the user to himself; what it took, step by step."""
    # Here, as the other commands need no MQTT and start sooner without.
    from emqx_im_client import Device, DeviceError, MemoryState, Trouble
    from emqx_im_client.state import Position

    trouble = ""

    async def listen(device: Device) -> None:
        nonlocal trouble
        async for event in device:
            if isinstance(event, Trouble):
                trouble = f": {event.reason}"

    state = MemoryState()
    # From now on: what the user was sent before is nobody's business here.
    state.saved.position = Position(time.time_ns() // 1000 - 1_000_000)
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            clientid = f"doctor-{uuid4().hex[:8]}"
            device = Device(uid, token, broker, url, state, clientid=clientid, trusted_send=trusted_send)
            async with device:
                listening = asyncio.create_task(listen(device))
                try:
                    mid = await device.send(f"single/{uid}", {"text": "emqx-im doctor"}, type="doctor")
                    acknowledged = time.monotonic()
                    await _pulled(url, token(), mid)
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
    except TimeoutError:
        where = f"{broker.host}:{broker.port}"
        late = f"a message through {where} is not acknowledged and pulled within {seconds:.0f} s{trouble}"
        return [fail(PROBE, late, _MEND)]
    except (DeviceError, aiohttp.ClientError, OSError, ValueError) as error:
        return [fail(PROBE, f"a message fails: {error or type(error).__name__}", _MEND)]
    sent, pulled = 1000 * (acknowledged - started), 1000 * (time.monotonic() - acknowledged)
    return [ok(PROBE, f"connected, sent, stored and acknowledged in {sent:.0f} ms; pulled in {pulled:.0f} ms")]


async def _pulled(url: str, token: str, mid: int) -> None:
    """Raises ValueError where the pull after it does not bring the message, ClientError where there is none."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{url}/pull", params={"last_id": str(mid - 1), "limit": "1"}) as answer,
    ):
        answer.raise_for_status()
        page = await answer.json()
    if [message["mid"] for message in page["messages"]] != [mid]:
        raise ValueError(f"acknowledged as {mid}, and not in the pull")
