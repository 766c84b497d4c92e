"""A client that is gone waits for nothing: its pull ends at once, however it left."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.app import new_uid, token, until
from tests.integration.served import Served
from tests.servers import RedisServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


def closes(connection: socket.socket) -> None:
    connection.close()


def ends_its_side(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def goes_on_and_closes(connection: socket.socket) -> None:
    """Asks for more before the end than the service reads while it answers."""
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
    connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    served = Served(tmp_path_factory.mktemp("departures"), common_redis.url)
    try:
        await served.wait_for("serving")
        yield served
    finally:
        served.kill()


async def wait(service: Served, pulls: int) -> bool:
    """Returns whether so many pulls wait."""
    async with aiohttp.ClientSession() as http, http.get(f"{service.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return f"emqx_im_waiting_pulls {pulls:.1f}" in lines


async def cursor_of(service: Served, uid: str) -> int:
    headers = {"Authorization": f"Bearer {token(uid)}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{service.url}/pull?last_id=0") as answer:
        return int((await answer.json())["last_id"])


async def opened(service: Served, uid: str, requests: int = 1) -> socket.socket:
    """Returns a connection on which pulls of the user wait."""
    cursor = await cursor_of(service, uid)
    request = f"GET /pull?last_id={cursor}&wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(uid)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=10)
    connection.sendall(request.encode() * requests)
    return connection


@pytest.mark.parametrize("leave", [closes, ends_its_side, resets, goes_on_and_closes])
async def test_a_wait_ends_with_its_client(service: Served, leave: Callable[[socket.socket], None]) -> None:
    uid = new_uid()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(await opened(service, uid)) for _ in range(4)]
        await until(partial(wait, service, 4))
        for connection in connections:
            leave(connection)
        await until(partial(wait, service, 0))
    with await opened(service, uid) as again:
        await until(partial(wait, service, 1))
        again.setblocking(False)
        with pytest.raises(BlockingIOError):
            again.recv(1)
    await until(partial(wait, service, 0))


async def test_who_asks_for_more_at_once_does_not_wait(service: Served) -> None:
    """Else what comes behind would hide that the client is gone."""
    with await opened(service, new_uid(), requests=40) as connection:
        connection.settimeout(10)
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 39:
            data = await asyncio.to_thread(connection.recv, 65536)
            assert data, answers
            answers += data
        assert b"HTTP/1.1 429" not in answers


async def test_nothing_is_logged_of_who_left(service: Served) -> None:
    assert [line for line in service.log.splitlines() if '"level": "error"' in line or "Traceback" in line] == []
