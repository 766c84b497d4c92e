"""Links that are slow, or cut what is long: pages come through all the same."""

import pytest

from emqx_im_client import Recovered, Trouble, pull
from tests.integration.client.conftest import device, received, told, until
from tests.integration.client.service import Service


async def test_a_page_may_take_any_time_while_it_comes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "SILENCE", 2.0)
    service.store("1002", "1001", "m1", body="x" * 3000)
    service.trouble = [service.dripping(0.1)]
    async with device(service, 1002) as reader:
        assert (await received(reader)).message.id == "m1"
    assert len(service.pulls) == 1


async def test_a_page_that_does_not_go_on_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "SILENCE", 0.2)
    service.store("1002", "1001", "m1")
    service.trouble = [service.dripping(3600)]
    async with device(service, 1002) as reader:
        assert isinstance(await told(reader), Trouble)
        assert (await received(reader)).message.id == "m1"


async def test_pages_get_smaller_until_they_come_through_and_then_larger(service: Service) -> None:
    for number in range(40):
        service.store("1002", "1001", f"m{number}")
    service.trouble = [service.cutting(10)] * 1000
    async with device(service, 1002) as reader:
        assert [(await received(reader)).message.id for _ in range(40)] == [f"m{number}" for number in range(40)]
        limits = [int(asked["limit"]) for asked in service.pulls]
        assert limits[:6] == [200, 100, 50, 25, 12, 6]
        # The way is free again: each page that comes makes the next one larger.
        service.trouble = []
        for number in range(40, 46):
            mid = service.store("1002", "1001", f"m{number}")
            service.tell("1002", "im.sync", {"head": mid, "reason": "late"})
            assert (await received(reader)).message.id == f"m{number}"
    assert int(service.pulls[-1]["limit"]) == 200


async def test_a_page_that_the_end_of_the_connection_cuts_is_asked_for_in_smaller_ones(service: Service) -> None:
    """On a slow link the page itself may be why the broker is not heard in time."""
    service.store("1002", "1001", "m1")
    service.trouble = [service.dripping(3600)]
    async with device(service, 1002) as reader:
        await until(lambda: len(service.pulls) == 1)
        await service.stop_broker()
        await service.start_broker()
        assert (await received(reader)).message.id == "m1"
        assert await told(reader) == Recovered()
    assert [asked["limit"] for asked in service.pulls[:2]] == ["200", "100"]


async def test_a_service_that_cannot_be_reached_says_nothing_about_the_way(service: Service) -> None:
    service.store("1002", "1001", "m1")
    service.trouble = [(503, {}), (503, {})]
    async with device(service, 1002) as reader:
        assert (await received(reader)).message.id == "m1"
    assert {asked["limit"] for asked in service.pulls} == {"200"}
