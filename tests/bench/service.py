"""Starts the real `emqx-im serve` and its Redis for a benchmark, and drives it with wrk."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from store.redis import keys
from store.redis.lua_source import FOLDER, LuaSource
from tests.bench.usage import listeners
from tests.servers import RedisServer, die_with_parent, free_port, program

HOOK_TOKEN = "bench-hook-token"
ADMIN_TOKEN = "bench-admin-token"
WRK_SECONDS = 2
"""wrk's own limit for a request."""
JWT_SECRET = "bench-jwt-secret-bench-jwt-secret"
PAYLOAD = b' {"id": "%s", "type": "text", "body": {"text": "a line of text as people send it, not long, not short"}}'


@contextlib.contextmanager
def process(arguments: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Runs a server until its port answers HTTP, and ends it with the block; gives its process id."""
    running = subprocess.Popen(
        arguments, env={**os.environ, **(environment or {})}, preexec_fn=die_with_parent, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                if running.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{arguments} did not start") from None
                time.sleep(0.05)
        yield running.pid
    finally:
        running.terminate()
        running.wait()


def begin(redis: RedisServer) -> None:
    """A store that is in use: a service takes it as it is, though its archive is away.

    Redis has all scripts: what they take is its own, however many users there are.
    """
    redis_client = Redis.from_url(redis.url)
    redis_client.mset({keys.EPOCH: "bench", keys.WINDOW: 7 * 86_400_000_000})
    for file in FOLDER.iterdir():
        if file.is_file():
            redis_client.script_load(LuaSource(file.name.removesuffix(".lua")).text)
    redis_client.close()


def see(redis: RedisServer, first: int = 1000, people: int = 1000) -> None:
    """Those whom a script of `wrk_script` writes to have been online once: others have no inboxes."""
    redis_client = Redis.from_url(redis.url)
    now = time.time_ns() // 1_000_000
    redis_client.zadd(keys.SEEN, {str(first + each): now for each in range(people)})
    redis_client.close()


class Serving(NamedTuple):
    port: int
    pid: int


@contextlib.contextmanager
def serving(directory: Path, redis: RedisServer, workers: int = 1, /, **settings: str) -> Iterator[Serving]:
    """`emqx-im serve` on an archive in `directory`, once all workers listen."""
    port = free_port()
    environment = {
        "IM_HTTP_PORT": str(port),
        "IM_REDIS_URL": redis.url,
        "IM_ARCHIVE_URL": f"sqlite:///{directory / 'archive.db'}",
        "IM_HOOK_TOKEN": HOOK_TOKEN,
        "IM_ADMIN_TOKEN": ADMIN_TOKEN,
        "IM_JWT_SECRET": JWT_SECRET,
        "IM_SECRET": "bench-secret",
        "IM_LOG_LEVEL": "error",
        # A few users stand for very many.
        "IM_SEND_BYTES": str(2**50),
        "IM_SEND_RATE": str(2**40),
        "IM_PULL_RATE": str(2**40),
        "IM_OPEN_PULLS": str(2**20),
        **settings,
    }
    command = [sys.executable, "-m", "hooks.cli", "serve", "--workers", str(workers)]
    with process(command, port, environment) as pid:
        deadline = time.monotonic() + 20
        while listeners(port) < workers:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not all of {workers} workers listen")
            time.sleep(0.05)
        yield Serving(port, pid)


def archive_away() -> str:
    """Returns the address of an archive that is away: nobody empties the outbox."""
    return f"mysql://root@127.0.0.1:{free_port()}/away"


def unarchived(stack: contextlib.ExitStack, directory: Path, workers: int = 1) -> tuple[RedisServer, Serving]:
    """Returns a Redis and a service on it that end with the stack; its archive is away."""
    redis = RedisServer(directory / "redis", program("redis-server"))
    redis.start()
    stack.callback(redis.stop)
    begin(redis)
    return redis, stack.enter_context(serving(directory, redis, workers, IM_ARCHIVE_URL=archive_away()))


@contextlib.contextmanager
def service(directory: Path, redis: RedisServer, **settings: str) -> Iterator[int]:
    """`serving`, for those who only need its port."""
    with serving(directory, redis, **settings) as started:
        yield started.port


def wrk_script(directory: Path, first: int = 1000, people: int = 1000) -> Path:
    """Returns a wrk script of hook bodies as EMQX sends them: so many senders and receivers, and no id twice.

    Requests are put together from parts made beforehand, so that the generator is not what is measured.
    """
    digits = b"0" * 21
    payload_head, payload_tail = b64encode(PAYLOAD % digits).decode().split(b64encode(digits).decode())
    fields = {
        "hook": "message",
        "event": "message.publish",
        "node": "emqx@127.0.0.1",
        "timestamp": 1795438818826,
        "rest": False,
        "qos": 1,
    }
    body = [
        '{"id":"00000000000',
        # 21 digits follow
        f'","payload_b64":"{payload_head}',
        # their base64
        f'{payload_tail}","clientid":"',
        # sender
        '-phone","username":"',
        # sender
        '","topic":"single/',
        # receiver
        '",' + json.dumps(fields)[1:-1] + ',"publish_received_at":',
        # now, in milliseconds
        "}",
    ]
    length = sum(map(len, body)) + 21 + 28 + 3 * len(str(first)) + 13
    head = (
        "POST /hooks/message HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {HOOK_TOKEN}\r\nContent-Length: {length}\r\n\r\n"
    )
    parts = ", ".join(json.dumps(part) for part in [head + body[0], *body[1:]])
    script = directory / f"post-{first}-{people}.lua"
    head = f"local parts = {{ {parts} }}\nlocal first, people = {first}, {people}\n"
    script.write_text(head + (Path(__file__).parent / "post.lua").read_text())
    return script


timed_out: list[str] = []
"""Sentences for the page about what load generators waited for in vain, or longer than their limit."""


def wrk(script: Path, port: int, connections: int, seconds: float) -> tuple[float, float]:
    """Requests per second and the 99th percentile in milliseconds. Raises if a request failed.

    A request that takes longer than wrk's limit is answered and counted all the same, and told in `timed_out`.
    """
    url = f"http://127.0.0.1:{port}/hooks/message"
    output = subprocess.run(
        [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return _result(output, connections)


def _result(output: str, connections: int) -> tuple[float, float]:
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert found, output
    requests, duration, errors, late, percentile = map(int, found.groups())
    if errors or not requests:
        raise RuntimeError(f"{errors} requests failed, {requests} were answered: {output}")
    if late:
        timed_out.append(
            f"{late} of {requests} requests over {connections} connections took more than {WRK_SECONDS} seconds; "
            "the rate counts what was answered while it was measured."
        )
    return requests / duration * 1e6, percentile / 1000
