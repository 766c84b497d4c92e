"""The example chat in Chromium: two people, one offline for a while, groups, unread counts, recall, and two tabs."""

import asyncio
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import running
from tests.e2e.proxy import Proxy, proxied
from tests.e2e.stack import EMQX_IM, Stack
from tests.integration.client.adapters import PATIENCE, Adapter
from tests.node import javascript, node, npm
from tests.servers import free_port

ANN, BOB = 1001, 1002

MESSAGES = "#messages li"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield from running(Stack(tmp_path))


class Chat:
    """The example's server, behind a network of its own."""

    def __init__(self, stack: Stack, broker: Proxy, service: Proxy) -> None:
        self._networks = (broker, service)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        places = {"BROKER": f"ws://127.0.0.1:{broker.port}/mqtt", "SERVICE": f"http://127.0.0.1:{service.port}"}
        tools = {"EMQX_IM": EMQX_IM, "DATA_DIR": str(stack.data_dir), "PORT": str(port)}
        example = javascript() / "examples" / "chat"
        npm("install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", folder=example)
        command = [node(), str(example / "server.mjs")]
        self._server = subprocess.Popen(command, env={**os.environ, **places, **tools}, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        self._server.stdout.readline()

    def online(self, on: bool) -> None:
        for network in self._networks:
            network.up = on
            if not on:
                network.cut()

    def stop(self) -> None:
        self._server.kill()
        self._server.communicate()


class Person:
    """A person before a page."""

    def __init__(self, browser: Adapter, page: str, chat: Chat, uid: int) -> None:
        self._browser = browser
        self._page = page
        self._chat = chat
        self._uid = uid

    async def arrive(self) -> None:
        await self._do("goto", value=f"{self._chat.url}/?uid={self._uid}")

    async def fill_in(self, form: str, value: str) -> None:
        await self._do("fill", f"#{form} input", value)
        await self._do("press", f"#{form} input", "Enter")

    async def say(self, text: str) -> None:
        await self.fill_in("composer", text)

    async def open(self, conversation: str) -> None:
        await self._do("click", f"[data-conversation='{conversation}']")

    async def recall(self, text: str) -> None:
        await self._do("click", f"{MESSAGES}:has-text('{text}') button")

    async def sees(self, selector: str, *expected: str) -> None:
        """Waits until the page shows exactly this."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (found := await self._do("texts", selector)) != list(expected):
            assert asyncio.get_running_loop().time() < deadline, f"{self._page} sees {found}, {await self._state()}"
            await asyncio.sleep(0.1)

    async def _state(self) -> list[str]:
        return await self._do("texts", "#status")

    async def sees_said(self, *expected: str) -> None:
        """Waits until the conversation is this and nothing is on its way. The button behind own ones is left out."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            found = [text.removesuffix(" Recall") for text in await self._do("texts", MESSAGES)]
            if found == list(expected) and not await self._do("texts", f"{MESSAGES}.waiting"):
                return
            assert asyncio.get_running_loop().time() < deadline, f"{self._page} sees {found}"
            await asyncio.sleep(0.1)

    async def leave(self) -> None:
        await self._do("shut")

    async def _do(self, verb: str, selector: str = "", value: str = "") -> list[str]:
        found: list[str] = await self._browser.ask(verb, page=self._page, selector=selector, value=value)
        return found


@pytest.fixture
async def people(stack: Stack) -> AsyncIterator[tuple[Person, Person, Person, Chat]]:
    """Ann, Ann's second tab, Bob, and the network that is Bob's."""
    command = shutil.which("chromium")
    assert command, "chromium is missing: .ci/need clients installs it"
    async with AsyncExitStack() as exits:
        chats = []
        for _ in range(2):
            dice = random.Random(1)
            broker, service = [
                await exits.enter_async_context(proxied(port, dice)) for port in (stack.ws_port, stack.http_port)
            ]
            chats.append(await asyncio.to_thread(Chat, stack, broker, service))
            exits.callback(chats[-1].stop)
        browser = Adapter([node(), str(javascript() / "test" / "puppet.mjs")], CHROMIUM=command)
        exits.callback(browser.kill)
        ann, second = (Person(browser, page, chats[0], ANN) for page in ("ann:1", "ann:2"))
        yield ann, second, Person(browser, "bob:1", chats[1], BOB), chats[1]


async def test_two_people_chat_and_lose_nothing(people: tuple[Person, Person, Person, Chat]) -> None:
    ann, second, bob, network = people
    await ann.arrive()
    await bob.arrive()

    # A private conversation, and what is unread in it.
    await ann.fill_in("private", str(BOB))
    await ann.say("hello")
    await bob.sees(".unread", "1")
    await bob.open(f"single/{ANN}")
    await bob.sees_said(f"{ANN}: hello")
    await bob.say("hi")
    await ann.sees_said("hello", f"{BOB}: hi")
    await bob.sees_said(f"{ANN}: hello", "hi")

    # Bob is offline for a while. Both go on writing.
    network.online(False)
    for text in ("one", "two", "three"):
        await ann.say(text)
    await ann.sees_said("hello", f"{BOB}: hi", "one", "two", "three")
    await bob.say("from the train")
    await bob.sees(f"{MESSAGES}.waiting", "from the train")
    network.online(True)
    said = ["hello", f"{BOB}: hi", "one", "two", "three", f"{BOB}: from the train"]
    await ann.sees_said(*said)
    await bob.sees_said(
        f"{ANN}: hello", "hi", *(f"{ANN}: {text}" for text in ("one", "two", "three")), "from the train"
    )

    # What was said can be taken back.
    await ann.recall("three")
    said[4] = "Message taken back"
    await ann.sees_said(*said)
    back = f"{ANN}: Message taken back"
    await bob.sees_said(f"{ANN}: hello", "hi", f"{ANN}: one", f"{ANN}: two", back, "from the train")

    # A group. It is shown, empty, once it is there.
    await ann.fill_in("group", str(BOB))
    await ann.sees_said()
    await ann.say("for all")
    await bob.sees("[data-conversation^='group/'] .unread", "1")

    # A second tab shares the device, and goes on when the first is closed.
    await second.arrive()
    await second.open(f"single/{BOB}")
    await second.sees_said(*said)
    await ann.leave()
    await second.say("from the second tab")
    await bob.sees_said(
        *(f"{ANN}: hello", "hi", f"{ANN}: one", f"{ANN}: two", back, "from the train"),
        f"{ANN}: from the second tab",
    )
    await bob.say("well")
    await second.sees_said(*said, "from the second tab", f"{BOB}: well")
