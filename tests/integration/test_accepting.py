"""New connections: many at once, and more than there are files for."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from hooks.accepting import accept
from tests.integration.served import Served
from tests.servers import RedisServer

GET = b"GET /healthz HTTP/1.1\r\nHost: im\r\n\r\n"


class Counting(asyncio.Protocol):
    def __init__(self, taken: list[asyncio.BaseTransport]) -> None:
        self._taken = taken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken.append(transport)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_new_connections_do_not_wait_for_one_another(run: object) -> None:
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

    assert callable(run)
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


@pytest.fixture
def served(common_redis: RedisServer, tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "served", common_redis.url)
    yield served
    served.kill()


async def test_who_finds_no_file_left_is_answered_once_there_is_one(served: Served) -> None:
    await served.wait_for("serving")
    files = len(os.listdir(f"/proc/{served.pid}/fd"))
    before = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (files + 2, before[1]))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(served.port)) for _ in range(20)]
        await served.wait_for("accept_failed")
        resource.prlimit(served.pid, resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.sendall(GET)
        answers = [await asyncio.to_thread(client.recv, 1000) for client in clients]
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers), answers
    assert "Too many open files" in served.log
    assert await served.stop() == 0
