"""Strangers on the port for phones: what they begin has to go on, and they leave files for everybody else."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.app import App, new_uid, token, until
from tests.integration.emqx.sessions import EmqxApi
from tests.integration.served import Served
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Guarded(App):
    """A service, and strangers who connect to it."""

    stack: contextlib.ExitStack
    served: Served

    def connected(self, port: int | None, sent: bytes = b"") -> socket.socket:
        assert port is not None
        connection = self.stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        connection.sendall(sent)
        return connection

    async def ended(self, reason: str) -> int:
        return int(await self.metric(f'emqx_im_connections_ended_total{{reason="{reason}"}}'))

    async def honest(self) -> None:
        """Two users write to each other, and pull on new connections."""
        one, other = new_uid(), new_uid()
        assert (await self.publish(f"single/{other}", {"id": "hello"}, one)).status == 204
        async with aiohttp.ClientSession() as http:
            for uid in (one, other):
                headers = {"Authorization": f"Bearer {token(uid)}"}
                url = f"http://127.0.0.1:{self.public_port}/pull?last_id=0"
                async with http.get(url, headers=headers) as answer:
                    found = (await answer.json())["messages"]
                    assert [each["id"] for each in found if each["from"] == one] == ["hello"]


@contextlib.asynccontextmanager
async def guarded(redis: RedisServer, directory: Path, **settings: object) -> AsyncIterator[Guarded]:
    public = free_port()
    served = Served(directory / "served", redis.url, **{"public_port": public, **settings})
    try:
        await served.wait_for("serving")
        async with aiohttp.ClientSession() as http, aiohttp.ClientSession() as broker:
            app = Guarded(http, broker, served.port, public, EmqxApi())
            app.served = served
            with contextlib.ExitStack() as app.stack:
                yield app
    finally:
        served.kill()


async def over(connection: socket.socket) -> bytes:
    """Returns what came before the service ended the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.to_thread(connection.recv, 65_536):
            answer += data
    return answer


def is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        connection.settimeout(30)


# What has begun goes on


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hurried(common_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarded(common_redis, tmp_path_factory.mktemp("hurried"), request_seconds=0.5) as app:
        yield app


HEADS = [
    b"G",
    b"GET /pull HTTP/1.1\r\nHost: x\r\n",
    b"POST /hooks/message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-token-1\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost",
]


@pytest.mark.parametrize("public", [True, False], ids=["public", "operators"])
@pytest.mark.parametrize("head", HEADS, ids=range(len(HEADS)))
async def test_a_head_that_does_not_come_is_not_waited_for(hurried: Guarded, public: bool, head: bytes) -> None:
    before = await hurried.ended("head_late") + await hurried.ended("request_late")
    connection = hurried.connected(hurried.public_port if public else hurried.port, head)
    assert (await over(connection)).count(b" 200 ") == head.count(b"\r\n\r\n")
    assert await hurried.ended("head_late") + await hurried.ended("request_late") == before + 1


async def test_a_head_that_comes_byte_by_byte_is_late_all_the_same(hurried: Guarded) -> None:
    connection = hurried.connected(hurried.public_port)
    with pytest.raises(ConnectionError):  # noqa: PT012  (whichever byte it is)
        while True:
            connection.sendall(b"G")
            await asyncio.sleep(0.1)


async def test_who_says_nothing_goes_from_the_public_port_and_stays_on_the_brokers(hurried: Guarded) -> None:
    broker, phone = hurried.connected(hurried.port), hurried.connected(hurried.public_port)
    assert await over(phone) == b""
    assert is_open(broker), "EMQX opens connections before it has something to say"
    broker.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in await asyncio.to_thread(broker.recv, 1000)


BODIES = [
    (
        b"POST /hooks/message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-token-1\r\nContent-Length: 9",
        "request_late",
    ),
    (
        b"POST /hooks/message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-token-1\r\nTransfer-Encoding: chunked",
        "body_late",
    ),
    (b"POST /admin/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nContent-Length: 9", "body_late"),
    (
        b"PUT /admin/tags/t/users?source=profile HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\n"
        b"Content-Length: 9",
        "body_late",
    ),
]


@pytest.mark.parametrize(("head", "reason"), BODIES, ids=range(len(BODIES)))
async def test_a_body_that_falls_silent_is_not_waited_for(hurried: Guarded, head: bytes, reason: str) -> None:
    before = await hurried.ended(reason)
    connection = hurried.connected(hurried.port, head + b"\r\n\r\n1")
    assert b" 200 " not in await over(connection)
    assert await hurried.ended(reason) == before + 1


async def test_a_body_may_take_its_time(hurried: Guarded) -> None:
    async def users() -> AsyncIterator[bytes]:
        for number in range(12):
            yield b"%d\n" % (number + 1)
            await asyncio.sleep(0.1)  # the whole takes longer than a body may be silent

    assert (await hurried.admin("PUT", "/tags/slow", json={"title": "Slow", "followable": False})).status == 204
    answer = await hurried.admin("PUT", "/tags/slow/users?source=profile", data=users())
    assert answer.status == 204, answer.raw


# Heads have a size


def send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        connection.sendall(data)


def request(size: int, lines: int = 1) -> bytes:
    """Returns a pull with a head of `size` bytes, most of it in so many headers."""
    head = f"GET /pull?last_id=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(new_uid())}\r\n".encode()
    room = size - len(head) - 2
    more = [b"X-%06d: " % line for line in range(lines)]
    each = (room - sum(len(name) + 2 for name in more)) // lines
    return head + b"".join(name + b"x" * each + b"\r\n" for name in more) + b"\r\n"


async def test_a_head_of_24_kib_passes(hurried: Guarded) -> None:
    for lines in (2, 60):
        connection = hurried.connected(hurried.public_port, request(24 * 1024, lines))
        assert (await asyncio.to_thread(connection.recv, 100)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(40 * 1024, 10), b"431"),
        (request(1024 * 1024, 120), b"431"),
        (b"GET /pull HTTP/1.1\r\n" + (b"X: " + b"x" * 8000 + b"\r\n") * 120, b"431"),
        (b"GET /pull HTTP/1.1\r\nX: " + b"x" * 3_000_000, b"431"),
        (b"GET /" + b"x" * 3_000_000, b"431"),
        (request(20 * 1024, 1000), b"400"),
        (b"GET /pull HTTP/1.1\r\n" + b"X: y\r\n" * 4000, b"400"),
    ],
    ids=["in all", "many large ones", "without an end", "a header", "a line", "many headers", "many without an end"],
)
async def test_a_head_that_is_too_long_is_told_so_even_to_one_who_goes_on(
    hurried: Guarded, sent: bytes, status: bytes
) -> None:
    connection = hurried.connected(hurried.public_port)
    sending = asyncio.create_task(asyncio.to_thread(send, connection, sent))
    answer = await over(connection)
    await sending
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status, answer[:200]
    assert b'{"error":{"code":"' in body


# Files


@pytest.fixture
def few_files() -> Iterator[int]:
    """Files that a service started now may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 400
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    yield files
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_strangers_leave_files_for_everybody_else(own_redis: RedisServer, tmp_path: Path, few_files: int) -> None:
    async with guarded(own_redis, tmp_path, request_seconds=3600) as app:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        for _ in range(3 * few_files):
            app.connected(app.public_port, b"GET /pull HTTP/1.1\r\n")
        await app.honest()
        assert await app.metric("emqx_im_public_connections") <= few_files - 256
        assert await app.ended("full") > 2 * few_files
        assert app.served.lines("accept_failed") == []
        async with aiohttp.ClientSession() as http, http.get(f"{app.url}/readyz") as answer:
            assert answer.status == 200


async def test_idle_connections_make_room_and_busy_ones_do_not(own_redis: RedisServer, tmp_path: Path) -> None:
    async with guarded(own_redis, tmp_path, public_connections=20, request_seconds=3600) as app:
        uids = [new_uid() for _ in range(5)]
        cursors = [await app.end(uid) for uid in uids]
        pulls = [
            f"GET /pull?last_id={cursor}&wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(uid)}\r\n\r\n"
            for uid, cursor in zip(uids, cursors, strict=True)
        ]
        waiting = [app.connected(app.public_port, pull.encode()) for pull in pulls for _ in range(4)]

        async def all_wait() -> bool:
            return await app.metric("emqx_im_waiting_pulls") == 20

        await until(all_wait)
        newcomer = app.connected(app.public_port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await app.served.wait_for("public_port_full")
        assert all(map(is_open, waiting))
        assert (await app.publish(f"single/{uids[0]}", {"id": "x"})).status == 204
        assert b" 200 " in await asyncio.to_thread(newcomer.recv, 1000), "who connects anew waits for room"
        await app.honest()


async def test_what_has_come_of_heads_is_bounded(own_redis: RedisServer, tmp_path: Path) -> None:
    async with guarded(own_redis, tmp_path, request_seconds=3600) as app:
        part = b"GET /pull HTTP/1.1\r\nX: " + b"x" * 24_000
        connections = [app.connected(app.public_port, part) for _ in range(1600)]

        async def some_ended() -> bool:
            return await app.ended("heads_full") >= 1600 - 32 * 1024 * 1024 // 24_000

        await until(some_ended)
        assert not is_open(connections[0])
        assert is_open(connections[-1])
        await app.honest()


async def test_with_one_port_strangers_are_counted_and_the_broker_is_not(
    own_redis: RedisServer, tmp_path: Path, uid: str
) -> None:
    async with guarded(own_redis, tmp_path, public_connections=20, public_port=None) as app:
        app.public_port = app.port
        assert (await app.publish(f"single/{uid}", {"id": "x"})).status == 204
        head = (
            b"POST /hooks/authz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-token-1\r\nContent-Length: 2\r\n\r\n"
        )
        broker = app.connected(app.port, head + b"{}")
        assert b" 400 " in await asyncio.to_thread(broker.recv, 1000)
        strangers = [app.connected(app.port) for _ in range(100)]
        await app.honest()

        async def some_ended() -> bool:
            return await app.ended("full") >= 80

        await until(some_ended)
        assert not is_open(strangers[0])
        assert is_open(strangers[-1])
        assert is_open(broker)
