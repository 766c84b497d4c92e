"""Devices of the tests, and the service that they talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from emqx_im_client import Broker, Device, MemoryState, Received, Recovered, State, Trouble, connection, pulling
from tests.integration.client.service import Service, running, token


@pytest.fixture(autouse=True)
def pulls_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "AGAIN_AFTER", 0.0)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pulling, connection):
        monkeypatch.setattr(module, "PAUSES", (0.02, 0.2))


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running() as service:
        yield service


def device(service: Service, uid: int, state: State | None = None, *, patience: float = 60) -> Device:
    broker = Broker("127.0.0.1", service.mqtt_port)
    return Device(uid, lambda: token(uid), broker, service.url, state or MemoryState(), patience=patience)


async def received(device: Device) -> Received:
    """Returns the next message, whatever the device says of itself before."""
    async with asyncio.timeout(10):
        async for event in device:
            if not isinstance(event, Trouble | Recovered):
                assert isinstance(event, Received)
                return event
    raise AssertionError("a device has no end")


async def told(device: Device) -> Trouble | Recovered:
    """Returns what the device says of itself next, whatever messages come before."""
    async with asyncio.timeout(20):
        async for event in device:
            if isinstance(event, Trouble | Recovered):
                return event
    raise AssertionError("a device has no end")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def nothing(device: Device) -> None:
    """No message, and nothing that ends the device."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await received(device)
