"""Devices of the tests, and the service that they talk to."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from hooks.device import Broker, Device, MemoryState, Received, State, client
from tests.integration.device.service import Service, running, token


@pytest.fixture(autouse=True)
def pulls_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "AGAIN_AFTER", 3600.0)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running() as service:
        yield service


def device(service: Service, uid: int, state: State | None = None, *, patience: float = 60) -> Device:
    broker = Broker("127.0.0.1", service.mqtt_port)
    return Device(uid, lambda: token(uid), broker, service.url, state or MemoryState(), patience=patience)


async def received(device: Device) -> Received:
    event = await asyncio.wait_for(anext(device), 10)
    assert isinstance(event, Received)
    return event


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def nothing(device: Device) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(device), 0.3)
