"""What only a browser does to the JavaScript client: its quota is exceeded, and pages of one user are several."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.integration.client.adapters import Adapter, Failed, chromium, until
from tests.integration.client.scripted import Scripted, scripted
from tests.integration.client.service import token

UID = 1002

LONG = "x" * 200_000
"""Longer than what a page may keep."""


@pytest.fixture
async def service() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Adapter]:
    program = chromium()
    yield program
    program.kill()


class Pages:
    """Pages of one browser profile, each with a device."""

    def __init__(self, browser: Adapter, service: Scripted) -> None:
        self._browser = browser
        self._service = service

    async def ask(self, page: str, verb: str, **arguments: Any) -> Any:
        return await self._browser.ask(verb, page=f"profile:{page}", **arguments)

    async def open(self, page: str, path: str) -> None:
        """The device is called as the page is."""
        await self.ask(page, "times", seconds={"pauses": [0.02, 0.2], "pullAgain": 0})
        about: dict[str, Any] = {"uid": UID, "ws": self._service.ws_port, "url": self._service.url}
        await self.ask(page, "open", device=page, **about, tokens=[token(UID)], path=path)

    async def send(self, page: str, body: str) -> Any:
        return await self.ask(page, "call", device=page, method="send", args=["single/1001", body])

    async def hears(self, page: str, *expected: str) -> None:
        """Waits until it was given exactly these messages."""
        await until(lambda: self.heard(page) == list(expected), f"{expected} on {page}")

    def heard(self, page: str) -> list[str]:
        return [event["body"] for event in self.events(page) if event["kind"] == "received"]

    def events(self, page: str) -> list[dict[str, Any]]:
        return list(self._browser.events.get(page, []))

    def reports(self, page: str) -> list[str]:
        """What it says of itself."""
        return [event.get("reason", event["kind"]) for event in self.events(page) if event["kind"] != "received"]


@pytest.fixture
def pages(browser: Adapter, service: Scripted) -> Pages:
    return Pages(browser, service)


async def test_a_page_whose_quota_is_exceeded_loses_nothing(pages: Pages, service: Scripted) -> None:
    await pages.ask("a", "quota", bytes=100_000)
    await pages.open("a", "full")
    await until(lambda: service.pulls, "a pull")
    with pytest.raises(Failed) as failed:
        await pages.send("a", LONG)
    assert failed.value.error == "QuotaExceededError"
    service.store(str(UID), "1001", "m1", body=LONG)
    service.tell(str(UID), "im.sync", {"head": service.head})
    await until(lambda: any("QuotaExceededError" in each for each in pages.reports("a")), "a report")
    assert pages.heard("a") == []
    assert service.published == []
    await pages.ask("a", "quota", bytes=None)
    await pages.hears("a", LONG)
    await until(lambda: pages.reports("a")[-1:] == ["recovered"], "the end of the trouble")
    assert await pages.send("a", "kept") > 0


async def test_pages_with_devices_of_their_own_lose_nothing(pages: Pages, service: Scripted) -> None:
    """Each takes the first name that is free, and goes on with what that device has kept."""
    names = [await pages.ask(page, "firstFree", name="chat") for page in ("a", "b")]
    assert names == ["chat", "chat-1"]
    for page, name in zip(("a", "b"), names, strict=True):
        await pages.open(page, name)
    service.store(str(UID), "1001", "m1", body="one")
    service.tell(str(UID), "im.sync", {"head": service.head})
    for page in ("a", "b"):
        await pages.hears(page, "one")
        assert await pages.send(page, f"from {page}") > 0
    await pages.ask("a", "shut")
    service.store(str(UID), "1001", "m2", body="two")
    service.tell(str(UID), "im.sync", {"head": service.head})
    await pages.hears("b", "one", "two")
    assert await pages.ask("c", "firstFree", name="chat") == "chat"
    assert await pages.ask("d", "firstFree", name="chat") == "chat-2"
    await pages.open("c", "chat")
    await pages.hears("c", "two")
