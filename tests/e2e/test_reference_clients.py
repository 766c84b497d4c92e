"""The reference clients over a network that cuts and delays, to a stack that is killed: all arrives, once, in order."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import running
from tests.e2e.proxy import Proxy, proxied
from tests.e2e.stack import Stack
from tests.integration.client.adapters import Adapter, chromium, js, python, until

MESSAGES = 1000
"""Messages of each client."""

SECONDS = 240
"""For all of them, on a busy machine."""

TIMES = {"pauses": [0.1, 1], "resend": [1, 4], "pullEvery": [2, 4]}
"""Shorter than as ever, so that the outages of the test are as long as those of life."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield from running(Stack(tmp_path, IM_CORS_ORIGINS="*"))


class Client:
    """One device of a user, behind a network of its own."""

    def __init__(self, adapter: Adapter, stack: Stack, uid: int, network: dict[str, Proxy], path: Path) -> None:
        self._adapter = adapter
        self._stack = stack
        self._network = network
        self._path = path
        self.uid = uid

    async def open(self) -> None:
        await self._adapter.ask("times", seconds=TIMES)
        ports = {"port": self._network["mqtt"].port, "ws": self._network["ws"].port}
        about: dict[str, Any] = {
            "device": "a",
            "uid": self.uid,
            "url": f"http://127.0.0.1:{self._network['http'].port}",
        }
        await self._adapter.ask("open", **about, **ports, tokens=[self._stack.token(self.uid)], path=str(self._path))

    def flood(self, to: int) -> int:
        return self._adapter.start("flood", device="a", to=f"single/{to}", count=MESSAGES)

    def done(self, number: int) -> bool:
        return self._adapter.answered(number)

    async def answer(self, number: int) -> None:
        await self._adapter.answer(number)

    def heard(self, *confirmed: bool) -> list[Any]:
        """Returns what was received, in order: what was pulled (`True`), what came live (`False`), or all."""
        events = [event for event in list(self._adapter.events.get("a", [])) if event["kind"] == "received"]
        return [event["body"] for event in events if not confirmed or event["confirmed"] in confirmed]

    async def history(self, peer: int) -> list[Any]:
        about = {"device": "a", "conversation": f"single/{peer}", "limit": 10 * MESSAGES}
        return [body for body in await self._adapter.ask("messages", **about) if body is not None]


async def trouble(stack: Stack, networks: list[dict[str, Proxy]], dice: random.Random) -> None:
    """Cuts and delays all the time, and kills everything twice."""
    for round_ in range(1000):
        await asyncio.sleep(dice.uniform(0.5, 2))
        network = dice.choice(networks)
        for proxy in network.values():
            proxy.longest_delay = dice.choice([0, 0, 0.005, 0.02])
        dice.choice(list(network.values())).cut()
        if round_ in (3, 8):
            await asyncio.to_thread(stack.kill)
            await asyncio.to_thread(stack.start)
        elif round_ == 5:
            for proxy in network.values():
                proxy.up = False
                proxy.cut()
            await asyncio.sleep(2)
            for proxy in network.values():
                proxy.up = True


@pytest.mark.timeout(400)
async def test_a_thousand_messages_from_each_arrive_once_and_in_order(stack: Stack, tmp_path: Path) -> None:
    """Python sends to Node, Node to Chromium, Chromium to Python."""
    dice = random.Random(19)
    adapters = [python(), js(), chromium()]
    async with AsyncExitStack() as exits:
        for adapter in adapters:
            exits.callback(adapter.kill)
        clients, networks = [], []
        for number, adapter in enumerate(adapters):
            ports = {"mqtt": stack.mqtt_port, "ws": stack.ws_port, "http": stack.http_port}
            network = {name: await exits.enter_async_context(proxied(port, dice)) for name, port in ports.items()}
            networks.append(network)
            clients.append(Client(adapter, stack, 1001 + number, network, tmp_path / f"{number}.device"))
            await clients[-1].open()
        troubling = asyncio.create_task(trouble(stack, networks, dice))
        exits.callback(troubling.cancel)
        following = [*clients[1:], clients[0]]
        floods = [(client, client.flood(to.uid)) for client, to in zip(clients, following, strict=True)]
        deadline = asyncio.get_running_loop().time() + SECONDS
        while not all(client.done(number) for client, number in floods):
            assert not troubling.done(), troubling.exception()
            heard = [len(client.heard()) for client in clients]
            assert asyncio.get_running_loop().time() < deadline, f"{heard} of {MESSAGES} came in {SECONDS} seconds"
            await asyncio.sleep(1)
        for client, number in floods:
            await client.answer(number)
        troubling.cancel()
        await asyncio.wait([troubling])
        for proxy in (proxy for network in networks for proxy in network.values()):
            proxy.up, proxy.longest_delay = True, 0.0
        await until(lambda: min(len(client.heard()) for client in clients) >= MESSAGES, "what was sent")
        await asyncio.sleep(1)
        for client in clients:
            assert sorted(client.heard()) == list(range(MESSAGES))
            # A live message may come before an earlier one that was missed: only what is pulled has its place.
            for each in (client.heard(True), client.heard(False)):
                assert each == sorted(each)
        # Chromium hears Node, and Node Python; each has what it sent to the next one, too.
        for client, sender, receiver in ((clients[1], clients[0], clients[2]), (clients[2], clients[1], clients[0])):
            assert await client.history(receiver.uid) == list(range(MESSAGES))
            # What it heard is pulled within seconds.
            deadline = asyncio.get_running_loop().time() + 30
            while len(pulled := await client.history(sender.uid)) < MESSAGES:
                assert asyncio.get_running_loop().time() < deadline, f"{len(pulled)} are pulled"
                await asyncio.sleep(0.5)
            assert pulled == list(range(MESSAGES))
        assert sum(proxy.cuts for network in networks for proxy in network.values()) > 10
