"""Answers that nobody reads: they are bounded, told, and do not harm those who read theirs."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.integration.app import App, new_uid, token, until
from tests.integration.emqx.sessions import EmqxApi
from tests.integration.served import Served
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

_PAGE = 2 * 1024 * 1024
_UNREAD = 'emqx_im_connections_ended_total{reason="unread"}'


class Attacked(App):
    """A service whose public port is asked by clients that read nothing."""

    stack: contextlib.ExitStack

    async def opened(self, uid: str) -> socket.socket:
        """Returns a pull of everything, of which nothing is read; little of it fits into the client's kernel."""
        assert self.public_port is not None
        connection = self.stack.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.public_port))
        head = f"GET /pull?last_id=0&limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(uid)}\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(connection, head.encode())
        return connection

    async def fill(self, uid: str) -> None:
        """A user's timeline of a page and more."""
        for number in range(180):
            assert (await self.publish(f"single/{uid}", {"id": f"m{number}", "body": "b" * 15_000})).status == 204

    async def honest(self) -> None:
        """Two users write to each other, and both are answered."""
        one, other = new_uid(), new_uid()
        assert (await self.publish(f"single/{other}", {"id": "hello"}, one)).status == 204
        public = {"url": f"http://127.0.0.1:{self.public_port}"}
        for uid in (one, other):
            answer = await self.request("GET", "/pull?last_id=0", token(uid), **public)
            assert answer.status == 200, answer.raw
            assert [each["id"] for each in answer.json["messages"] if each["from"] == one] == ["hello"]


async def answers(connections: list[socket.socket]) -> Counter[int]:
    """Returns how many were answered with which status; each has got the first bytes of its answer."""
    found: Counter[int] = Counter()
    for connection in connections:
        async with asyncio.timeout(30):
            found[int((await asyncio.get_running_loop().sock_recv(connection, 12))[9:])] += 1
    return found


@contextlib.asynccontextmanager
async def attacked(redis: RedisServer, directory: Path, *, write_seconds: float) -> AsyncIterator[Attacked]:
    public = free_port()
    settings = {"write_seconds": write_seconds, "answer_bytes": 16 * _PAGE, "open_pulls": 5}
    served = Served(directory / "served", redis.url, public_port=public, **settings)
    try:
        await served.wait_for("serving")
        async with aiohttp.ClientSession() as http, aiohttp.ClientSession() as broker:
            app = Attacked(http, broker, served.port, public, EmqxApi())
            with contextlib.ExitStack() as app.stack:
                yield app
    finally:
        served.kill()


async def test_one_user_who_reads_nothing_takes_no_more_than_a_few_answers(
    own_redis: RedisServer, tmp_path: Path, uid: str
) -> None:
    async with attacked(own_redis, tmp_path, write_seconds=3600) as app:
        await app.fill(uid)
        connections = [await app.opened(uid) for _ in range(300)]
        assert await answers(connections) == {200: 5, 429: 295}
        assert await app.metric('emqx_im_pulls_refused_total{code="too_many_open"}') == 295
        assert 0 < await app.metric("emqx_im_unread_bytes") < 5 * _PAGE
        await app.honest()
        for connection in connections:
            connection.close()
        await until(partial(none_unread, app))
        assert (await answers([await app.opened(uid)])) == {200: 1}, "the user may pull again"


async def test_many_who_read_nothing_are_refused_before_anything_is_built(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with attacked(own_redis, tmp_path, write_seconds=3600) as app:
        uids = [new_uid() for _ in range(8)]
        for uid in uids:
            await app.fill(uid)
        connections = [await app.opened(uid) for uid in uids for _ in range(5)]
        found = await answers(connections)
        assert set(found) == {200, 503}
        # An answer counts twice: as it was built, and as it stands in the buffer of its connection.
        assert 0 < found[200] <= 8
        assert 0 < await app.metric("emqx_im_unread_bytes") <= 8 * _PAGE
        assert await app.metric('emqx_im_pulls_refused_total{code="answers_unread"}') == found[503]
        assert (await app.publish(f"single/{new_uid()}", {"id": "x"})).status == 204, "hooks are answered all the same"
        for connection in connections[:5]:
            connection.close()
        await until(partial(pulls, app))
        await app.honest()


async def test_who_reads_nothing_for_too_long_is_let_go(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with attacked(own_redis, tmp_path, write_seconds=1) as app:
        await app.fill(uid)
        for _ in range(5):
            await app.opened(uid)

        async def all_gone() -> bool:
            return await app.metric(_UNREAD) == 5 and await none_unread(app)

        await until(all_gone, 30)
        assert (await answers([await app.opened(uid)])) == {200: 1}, "the user may pull again"


async def none_unread(app: Attacked) -> bool:
    return await app.metric("emqx_im_unread_bytes") == 0


async def pulls(app: Attacked) -> bool:
    return (await app.pull(new_uid())).status == 200


async def test_who_reads_slowly_gets_the_whole_answer(own_redis: RedisServer, tmp_path: Path, uid: str) -> None:
    async with attacked(own_redis, tmp_path, write_seconds=1) as app:
        await app.fill(uid)
        connection = await app.opened(uid)
        loop, answer = asyncio.get_running_loop(), b""
        async with asyncio.timeout(120):
            while b"\r\n\r\n" not in answer:
                answer += await loop.sock_recv(connection, 4096)
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            received, pauses = len(body), 0
            started = loop.time()
            while received < length:
                # Longer in all than a client may be silent, but never silent that long.
                if received > pauses * length / 12:
                    await asyncio.sleep(0.2)
                    pauses += 1
                data = await loop.sock_recv(connection, 65_536)
                assert data, "the service ended the connection"
                received += len(data)
            assert loop.time() - started > 2
        assert await app.metric(_UNREAD) == 0
