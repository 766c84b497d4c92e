"""New connections: many at once, and none after the end."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from hooks.http.accepting import accept


class Counting(asyncio.Protocol):
    def __init__(self, taken: list[asyncio.BaseTransport]) -> None:
        self._taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken.append(transport)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_new_connections_do_not_wait_for_one_another(run: Callable[[Coroutine[Any, Any, int]], int]) -> None:
    async def turns_for(many: int) -> int:
        taken: list[asyncio.BaseTransport] = []
        async with contextlib.AsyncExitStack() as stack:
            port = await accept(stack, "127.0.0.1", 0, lambda: Counting(taken), shared=False)
            for _ in range(many):
                stack.enter_context(connect(port))
            turns = 0
            async with asyncio.timeout(10):
                while len(taken) < many:
                    await asyncio.sleep(0)
                    turns += 1
            for transport in taken:
                transport.abort()  # type: ignore[attr-defined]
        return turns

    assert run(turns_for(100)) < 50


def test_nobody_is_taken_once_it_has_ended() -> None:
    async def ended() -> int:
        async with contextlib.AsyncExitStack() as stack:
            port = await accept(stack, "127.0.0.1", 0, asyncio.Protocol, shared=False)
            connect(port).close()
        return port

    port = uvloop.run(ended())
    with pytest.raises(ConnectionRefusedError):
        connect(port)


@pytest.fixture(params=[True, False], ids=["both", "IPv4 alone"])
def families(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The loopback addresses of a machine that has IPv6, or has not."""
    if not request.param:
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    return ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "alone"])
def test_everywhere_is_every_address_of_the_machine(families: list[str], shared: bool) -> None:
    async def reached() -> int:
        taken: list[asyncio.BaseTransport] = []
        async with contextlib.AsyncExitStack() as stack:
            port = await accept(stack, "::", 0, lambda: Counting(taken), shared=shared)
            for address in families:
                stack.enter_context(socket.create_connection((address, port), timeout=10))
            async with asyncio.timeout(10):
                while len(taken) < len(families):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            for transport in taken:
                transport.abort()  # type: ignore[attr-defined]
        return len(taken)

    assert uvloop.run(reached()) == len(families)
