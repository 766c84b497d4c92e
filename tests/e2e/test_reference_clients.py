"""The reference clients over a network that cuts and delays, to a stack that is killed: all arrives, once, in order."""

import asyncio
import itertools
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

SECONDS = 600
"""For all of them, on a busy machine."""

TIMES = {"pauses": [0.1, 1], "resend": [1, 4], "pullEvery": [2, 4]}
"""Shorter than as ever, so that the outages of the test are as long as those of life."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield from running(Stack(tmp_path, IM_CORS_ORIGINS="*"))


class Client:
    """One device of a user, behind a network of its own, that sends to others and hears them."""

    def __init__(self, adapter: Adapter, stack: Stack, uid: int, network: dict[str, Proxy], path: Path) -> None:
        self._adapter = adapter
        self._stack = stack
        self._network = network
        self._path = path
        self._floods: list[int] = []
        self.uid = uid

    async def open(self) -> None:
        await self._adapter.ask("times", seconds=TIMES)
        ports = {name: proxy.port for name, proxy in self._network.items()}
        await open_device(self._adapter, self._stack, "a", self.uid, self._path, **ports)

    def flood(self, to: int) -> None:
        """Begins to send so many messages, one after the other."""
        self._floods.append(self._adapter.start("flood", device="a", to=f"single/{to}", count=MESSAGES))

    def has_sent(self) -> bool:
        return all(map(self._adapter.answered, self._floods))

    async def sent(self) -> None:
        for number in self._floods:
            await self._adapter.answer(number)

    def heard(self, sender: int) -> list[Any]:
        """What was received of somebody, in the order in which the application was given it."""
        events = [event for event in list(self._adapter.events.get("a", [])) if event["kind"] == "received"]
        return [event["body"] for event in events if event["sender"] == str(sender)]

    async def kept(self, peer: int) -> dict[str, list[Any]]:
        """What its storage has of the conversation, by who said it."""
        about = {"device": "a", "conversation": f"single/{peer}", "limit": 10 * MESSAGES}
        said: dict[str, list[Any]] = {str(self.uid): [], str(peer): []}
        for each in await self._adapter.ask("messages", **about):
            said[each["sender"]].append(each["body"])
        return said


async def open_device(
    adapter: Adapter, stack: Stack, name: str, uid: int, path: Path, *, mqtt: int, ws: int, http: int
) -> None:
    about: dict[str, Any] = {"device": name, "uid": uid, "url": f"http://127.0.0.1:{http}", "port": mqtt, "ws": ws}
    await adapter.ask("open", **about, tokens=[stack.token(uid)], path=str(path))


class Trouble:
    """Cuts and delays all the time, and kills everything when a third, and when two thirds, of the way is done."""

    def __init__(self, stack: Stack, networks: list[dict[str, Proxy]], dice: random.Random) -> None:
        self._stack = stack
        self._networks = networks
        self._dice = dice
        self.done = 0.0
        """How much of the way."""
        self.kills = 0
        self.blackouts = 0

    async def make(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(0.5, 2))
            network = self._dice.choice(self._networks)
            for proxy in network.values():
                proxy.longest_delay = self._dice.choice([0, 0, 0.005, 0.02])
            self._dice.choice(list(network.values())).cut()
            if self.done > (self.kills + 1) / 3:
                self.kills += 1
                await asyncio.to_thread(self._stack.kill)
                await asyncio.to_thread(self._stack.start)
            elif self.done > 0.5 and not self.blackouts:
                self.blackouts += 1
                self._switch(network, on=False)
                await asyncio.sleep(2)
                self._switch(network, on=True)

    def end(self) -> None:
        for network in self._networks:
            self._switch(network, on=True)
            for proxy in network.values():
                proxy.longest_delay = 0.0

    def _switch(self, network: dict[str, Proxy], *, on: bool) -> None:
        for proxy in network.values():
            proxy.up = on
            if not on:
                proxy.cut()


@pytest.mark.timeout(800)
async def test_a_thousand_messages_each_way_arrive_once_and_in_order(stack: Stack, tmp_path: Path) -> None:
    """Among a device in Python, one in Node and one in Chromium: each sends to both others, and hears both."""
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
        ways = list(itertools.permutations(clients, 2))
        trouble = Trouble(stack, networks, dice)
        troubling = asyncio.create_task(trouble.make())
        exits.callback(troubling.cancel)
        for sender, receiver in ways:
            sender.flood(receiver.uid)
        deadline = asyncio.get_running_loop().time() + SECONDS
        while not all(client.has_sent() for client in clients):
            assert not troubling.done(), troubling.exception()
            heard = []
            for sender, receiver in ways:
                bodies = receiver.heard(sender.uid)
                assert bodies == list(range(len(bodies)))
                heard.append(len(bodies))
            trouble.done = min(heard) / MESSAGES
            assert asyncio.get_running_loop().time() < deadline, f"{heard} of {MESSAGES} came in {SECONDS} seconds"
            await asyncio.sleep(0.5)
        for client in clients:
            await client.sent()
        troubling.cancel()
        await asyncio.wait([troubling])
        trouble.end()
        for sender, receiver in ways:
            await until(lambda: len(receiver.heard(sender.uid)) >= MESSAGES, "what was sent")  # noqa: B023
        await asyncio.sleep(1)
        for sender, receiver in ways:
            assert receiver.heard(sender.uid) == list(range(MESSAGES))
        for client in clients[1:]:
            for peer in clients:
                if peer is not client:
                    await has_kept(client, peer.uid)
        assert trouble.kills == 2
        assert trouble.blackouts == 1
        assert sum(proxy.cuts for network in networks for proxy in network.values()) > 10


async def has_kept(client: Client, peer: int) -> None:
    """Waits until the device has both sides of the conversation, in order: what it heard is pulled within seconds."""
    everything = {str(uid): list(range(MESSAGES)) for uid in (client.uid, peer)}
    deadline = asyncio.get_running_loop().time() + 30
    while (kept := await client.kept(peer)) != everything:
        assert asyncio.get_running_loop().time() < deadline, {uid: len(said) for uid, said in kept.items()}
        await asyncio.sleep(0.5)


async def test_all_devices_of_a_user_have_the_same_unread(stack: Stack, tmp_path: Path) -> None:
    """Ann's in Python, in Node and in Chromium; one of them is away for a while, and another one is new."""
    ann, bob, gid = 1001, 1002, 77
    programs = {"python": python(), "node": js(), "chromium": chromium(), "bob": python(), "new": js()}
    ports = {"mqtt": stack.mqtt_port, "ws": stack.ws_port, "http": stack.http_port}

    async def come(name: str, uid: int = ann) -> None:
        await open_device(programs[name], stack, name, uid, tmp_path / name, **ports)

    async def do(name: str, method: str, *args: Any) -> Any:
        return await programs[name].ask("call", device=name, method=method, args=list(args))

    async def unread(names: list[str], expected: dict[str, int]) -> None:
        for name in names:
            found: dict[str, int] = {}
            deadline = asyncio.get_running_loop().time() + 30
            while found != expected:
                assert asyncio.get_running_loop().time() < deadline, f"{name}: {found}"
                counts = await programs[name].ask("unread", device=name)
                found = {conversation: count for conversation, count in counts.items() if count}

    async with AsyncExitStack() as exits:
        for program in programs.values():
            exits.callback(program.kill)
        everybody = ["python", "node", "chromium"]
        await come("bob", bob)
        for name in everybody:
            await come(name)
        await do("bob", "publish", f"group/{gid}/create", {"members": [ann]})
        for number in range(3):
            await do("bob", "send", f"single/{ann}", number)
        for number in range(2):
            await do("bob", "send", f"group/{gid}", number)
        private, group = f"single/{bob}", f"group/{gid}"
        await unread(everybody, {private: 3, group: 2})
        await do("node", "read", private)
        await unread(everybody, {group: 2})
        await programs["python"].ask("close", device="python")
        last = [await do("bob", "send", f"single/{ann}", number) for number in range(3)]
        await do("bob", "recall", f"single/{ann}", last[1])
        await unread(["node", "chromium"], {private: 2, group: 2})
        await do("chromium", "read", group)
        await come("python")
        await come("new")
        everybody.append("new")
        await unread(everybody, {private: 2})
        await do("python", "read", private, last[0])
        await unread(everybody, {private: 1})
