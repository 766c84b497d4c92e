"""`emqx-im serve` as a process: signals, workers, taken ports, wrong settings, and what its log holds."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.app import SECRETS, App, message_body, token, until
from tests.integration.emqx.sessions import EmqxApi
from tests.integration.served import Served
from tests.servers import RedisServer, free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

Serve = Callable[..., Served]


@pytest.fixture
def serve(common_redis: RedisServer, tmp_path: Path) -> Iterator[Serve]:
    """Starts the command; nothing of it outlives the test."""
    started: list[Served] = []

    def start(*arguments: str, redis_url: str = common_redis.url, **settings: object) -> Served:
        served = Served(tmp_path / str(len(started)), redis_url, *arguments, **settings)
        started.append(served)
        return served

    yield start
    for served in started:
        served.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def asking() -> AsyncIterator[Callable[[Served], App]]:
    """Makes clients of a served port."""
    async with aiohttp.ClientSession() as http, aiohttp.ClientSession() as broker:
        yield lambda served: App(http, broker, served.port, None, EmqxApi())


async def test_sigterm_ends_it_gently(serve: Serve, asking: Callable[[Served], App], uid: str) -> None:
    served = serve()
    await served.wait_for("serving")
    app = asking(served)
    await app.end(uid)
    assert (await app.publish(f"single/{uid}", {"id": "x"})).status == 204
    assert len(await app.messages(uid)) == 1
    assert await served.stop() == 0
    assert "Traceback" not in served.log


async def test_nothing_that_was_acknowledged_is_lost_in_a_stop(
    serve: Serve, asking: Callable[[Served], App], uid: str
) -> None:
    """A broker's queues go on through a restart: each event again until it is done."""
    served = serve("--workers", "2")
    await served.wait_for("serving", 2)
    await asking(served).end(uid)
    acknowledged: list[str] = []
    statuses: set[int] = set()
    stopped = asyncio.Event()

    async def queue(app: App, name: int) -> None:
        for number in range(10_000):
            client_id = f"{name}-{number}"
            try:
                answer = await app.publish(f"single/{uid}", {"id": client_id})
            except aiohttp.ClientError:
                if stopped.is_set():
                    return
                continue
            statuses.add(answer.status)
            if answer.status == 204:
                acknowledged.append(client_id)

    queues = asyncio.gather(*(queue(asking(served), name) for name in range(8)))

    async def some() -> bool:
        return len(acknowledged) > 100

    await until(some)
    served.terminate()
    stopped.set()
    await queues
    assert await served.ended() == 0
    assert statuses <= {204, 503}
    again = serve()
    await again.wait_for("serving")
    stored = {each["id"] for each in await asking(again).messages(uid)}
    assert stored >= set(acknowledged)


async def test_workers_share_the_port_and_the_counts(serve: Serve, asking: Callable[[Served], App], uid: str) -> None:
    served = serve("--workers", "2")
    await served.wait_for("serving", 2)
    assert len(served.children()) == 2
    await asking(served).end(uid)
    for number in range(40):
        async with aiohttp.ClientSession() as fresh:
            app = App(fresh, fresh, served.port, None, EmqxApi())
            assert (await app.publish(f"single/{uid}", {"id": f"m{number}"})).status == 204
    app = asking(served)
    assert len(await app.messages(uid)) == 40
    assert await app.metric('emqx_im_hook_requests_total{path="/hooks/message",status="204"}') == 40


async def test_a_message_through_one_worker_wakes_a_pull_on_the_other(serve: Serve, uid: str) -> None:
    served = serve("--workers", "2")
    await served.wait_for("serving", 2)
    async with aiohttp.ClientSession() as pulling, aiohttp.ClientSession() as sending:
        puller, sender = (App(http, http, served.port, None, EmqxApi()) for http in (pulling, sending))
        cursor = await puller.end(uid)
        pulls = [asyncio.create_task(puller.pull(uid, cursor, wait=30)) for _ in range(4)]

        async def all_wait() -> bool:
            return await sender.metric("emqx_im_waiting_pulls") == 4

        await until(all_wait)
        await sender.publish(f"single/{uid}", {"id": "x"})
        async with asyncio.timeout(5):
            for answer in await asyncio.gather(*pulls):
                assert [each["id"] for each in answer.json["messages"]] == ["x"]


async def test_a_worker_that_dies_is_replaced(serve: Serve, asking: Callable[[Served], App], uid: str) -> None:
    served = serve("--workers", "2")
    await served.wait_for("serving", 2)
    victim, other = served.children()
    os.kill(victim, signal.SIGKILL)
    await served.wait_for("worker_died")
    await served.wait_for("serving", 3)
    assert other in served.children()
    assert len(served.children()) == 2
    assert (await asking(served).publish(f"single/{uid}", {"id": "x"})).status == 204
    workers = served.children()
    assert await served.stop() == 0
    assert not [pid for pid in workers if _alive(pid)]


async def test_no_worker_outlives_a_parent_that_is_killed(serve: Serve) -> None:
    served = serve("--workers", "2")
    await served.wait_for("serving", 2)
    workers = served.children()
    os.kill(served.pid, signal.SIGKILL)

    async def gone() -> bool:
        return not [pid for pid in workers if _alive(pid)]

    await until(gone)


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("setting", ["http_port", "public_port"])
async def test_a_taken_port_is_one_line_that_names_the_setting(serve: Serve, workers: str, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        served = serve("--workers", workers, **{setting: taken.getsockname()[1]})
        assert await served.ended() == 1
    assert f"IM_{setting.upper()}" in served.message
    assert "\n" not in served.message
    assert "Traceback" not in served.log


@pytest.mark.parametrize(
    ("workers", "setting", "value"),
    [
        ("1", "redis_url", None),
        ("1", "http_host", "no.such.host.invalid"),
        ("2", "http_host", "no.such.host.invalid"),
        ("2", "archive_url", "postgres://hidden@localhost/im"),
    ],
)
async def test_a_wrong_setting_is_one_line_that_names_it(
    serve: Serve, workers: str, setting: str, value: str | None
) -> None:
    served = serve("--workers", workers, **{setting: value})
    assert await served.ended() == 1
    assert f"IM_{setting.upper()}" in served.message
    assert "\n" not in served.message
    assert "hidden" not in served.log


async def test_what_is_away_at_the_start_is_waited_for(
    serve: Serve, asking: Callable[[Served], App], own_redis: RedisServer, uid: str
) -> None:
    own_redis.kill()
    served = serve(redis_url=own_redis.url)
    await served.wait_for("serving")
    app = asking(served)
    assert (await app.publish(f"single/{uid}", {"id": "x"})).status == 503
    assert (await app.request("GET", "/readyz")).status == 503
    own_redis.start()

    async def stored() -> bool:
        return (await app.publish(f"single/{uid}", {"id": "x"})).status == 204

    await until(stored)
    assert (await app.request("GET", "/readyz")).status == 200


async def test_secrets_reach_no_log(
    serve: Serve, asking: Callable[[Served], App], own_redis: RedisServer, uid: str
) -> None:
    served = serve(redis_url=own_redis.url, log_level="debug", emqx_api_url=f"http://127.0.0.1:{free_port()}")
    await served.wait_for("serving")
    app = asking(served)
    user_token = token(uid)
    body = message_body(f"single/{uid}", {"id": "x", "ack": True}, uid)
    assert (await app.hook("message", body)).status == 204
    await app.hook("message", body, "a-wrong-hook-token")
    await app.pull(uid, bearer=user_token)
    await app.pull(uid, bearer=user_token + "x")
    await app.admin("GET", "/deadletters")
    await app.publish("single/abc", {"id": "x"}, uid)
    await served.wait_for("broker_away")
    own_redis.kill()
    await app.hook("message", body)
    await app.pull(uid, bearer=user_token)
    await served.wait_for("hook_try_again")
    own_redis.start()
    assert await served.stop() == 0
    secrets = [secret for given in SECRETS.values() for secret in given.split(",")]
    for secret in [*secrets, user_token, "a-wrong-hook-token"]:
        assert secret not in served.log


async def test_an_unknown_setting_is_warned_of(serve: Serve) -> None:
    served = serve(http_prot=1)
    await served.wait_for("serving")
    assert [line["name"] for line in served.lines("unknown_setting")] == ["IM_HTTP_PROT"]


async def test_ctrl_c_ends_it_gently(serve: Serve) -> None:
    served = serve("--workers", "2")
    await served.wait_for("serving", 2)
    started = time.monotonic()
    for pid in [*served.children(), served.pid]:
        os.kill(pid, signal.SIGINT)
    assert await served.ended() == 0
    assert time.monotonic() - started < 15
    assert "Traceback" not in served.log


async def test_who_finds_no_file_left_is_answered_once_there_is_one(serve: Serve) -> None:
    served = serve()
    await served.wait_for("serving")
    files = len(os.listdir(f"/proc/{served.pid}/fd"))
    before = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (files + 2, before[1]))
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", served.port)
        clients = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(20)]
        await served.wait_for("accept_failed")
        resource.prlimit(served.pid, resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: im\r\n\r\n")
        answers = [await asyncio.to_thread(client.recv, 1000) for client in clients]
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers), answers
    assert "Too many open files" in served.log
    assert await served.stop() == 0


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
async def test_everywhere_is_ipv4_too(serve: Serve, workers: tuple[str, ...]) -> None:
    served = serve(*workers, http_host="::", public_port=free_port())
    await served.wait_for("serving", 2 if workers else 1)
    addresses = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    async with aiohttp.ClientSession() as http:
        for address in addresses:
            async with http.get(f"http://{address}:{served.port}/healthz") as answer:
                assert answer.status == 200
