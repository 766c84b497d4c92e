"""How long a device waits before it connects again, and what it makes of connections that keep ending."""

import asyncio

import pytest

from emqx_im_client import Broker, Device, MemoryState, Recovered, Trouble, connection
from emqx_im_client.backoff import Backoff
from tests.integration.client.conftest import device, told, until
from tests.integration.client.service import Service, token


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest that each pause could have been."""
    made: list[float] = []

    class Watched(Backoff):
        def pause(self) -> float:
            made.append(self.next)
            return super().pause()

    monkeypatch.setattr(connection, "Backoff", Watched)
    return made


async def test_pauses_grow_until_the_device_is_up_to_date(service: Service, pauses: list[float]) -> None:
    """That the broker takes it is not enough: most of the way may still fail."""
    service.trouble = [(503, {})] * 1_000_000
    async with device(service, 1002):
        for times in range(1, 4):
            asked = len(service.pulls)
            await until(lambda asked=asked: len(service.pulls) > asked)  # type: ignore[misc]
            await service.stop_broker()
            await service.start_broker()
            await until(lambda times=times: len(service.connects) > times)  # type: ignore[misc]
    grown = [pause for pause in pauses if pause]
    assert grown[:3] == [0.02, 0.04, 0.08]


async def test_the_first_pause_is_short_again_once_it_is(
    service: Service, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.stop_broker()
    async with device(service, 1002) as reader:
        await until(lambda: len(pauses) >= 4)
        await service.start_broker()
        while not isinstance(await told(reader), Recovered):
            pass
        before = len(pauses)
        await service.stop_broker()
        await until(lambda: len(pauses) > before)
        await service.start_broker()
    assert pauses[before] == 0.02


async def test_two_devices_with_one_clientid_say_so_and_slow_down(
    service: Service, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STEADY", 0.5)
    broker = Broker("127.0.0.1", service.mqtt_port)

    def twin() -> Device:
        return Device(1002, lambda: token(1002), broker, service.url, MemoryState(), clientid="copied")

    async def warned(twin: Device) -> None:
        while "'copied'" not in str(event := await told(twin)):
            assert isinstance(event, Trouble | Recovered)

    async with twin() as one:
        async with twin() as other:
            await asyncio.gather(warned(one), warned(other))
            # They take turns, each longer than the one before, as far as pauses go.
            await until(lambda: pauses.count(0.2) >= 4)
        # Alone, it stands, and says so.
        assert await told(one) == Recovered()
