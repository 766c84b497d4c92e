"""Replaces a tag's profile holders over HTTP while users pull and send: time, memory of Redis, how long others wait.

One service runs on a Redis with AOF at every write and a SQLite archive. The first upload gives the tag to
everybody in it; the second has as many users, three in ten of whom are others. Meanwhile one client pulls, and one
posts messages to the webhook, each again a few milliseconds after its answer; both have also run before, with
nothing else going on. Redis itself says how long its longest command took, which on a busy machine is the longest
time it had to wait for a processor. The answer comes when the new set counts; afterwards it is propagated: users'
maps follow, and the archive gets its rows.
"""

import contextlib
import http.client
import json
import multiprocessing
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis

from store.redis import keys
from tests.bench.pulls import Client
from tests.bench.report import Report
from tests.bench.service import ADMIN_TOKEN, HOOK_TOKEN, serving
from tests.bench.usage import processor
from tests.servers import RedisServer, die_with_parent, program

FIRST = 10_000_000
TAG = "bench"
PAUSE_SECONDS = 0.003
BEFORE_SECONDS = 10.0
LOOK_SECONDS = 0.1
MAX_SECONDS = 900
P99_MILLISECONDS = 100.0
"""A pause that nobody minds: an answer that takes longer is noticed."""


class Waits(NamedTuple):
    """Milliseconds of the answers to one client."""

    pulls: list[float]
    messages: list[float]


def run(report: Report) -> None:
    count = report.choose(quick=20_000, usual=200_000, full=1_000_000)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        server = RedisServer(directory / "redis", program("redis-server"))
        server.start()
        stack.callback(server.stop)
        redis = Redis.from_url(server.url)
        redis.config_set("slowlog-log-slower-than", 1000)
        redis.config_set("slowlog-max-len", 100_000)
        port = stack.enter_context(serving(directory, server)).port
        ask(port, "PUT", f"/admin/tags/{TAG}", json.dumps({"title": "bench"}).encode())
        with probing(port) as before:
            time.sleep(report.choose(quick=1.0, usual=BEFORE_SECONDS, full=BEFORE_SECONDS))
        waited(report, "nothing else", before, None)
        replaced(report, redis, server.pid, port, "first set", range(FIRST, FIRST + count))
        start = FIRST + count * 3 // 10
        replaced(report, redis, server.pid, port, "second set", range(start, start + count))


def replaced(report: Report, redis: "Redis", pid: int, port: int, what: str, uids: range) -> None:
    what = f"{what} of {len(uids):,}"
    redis.slowlog_reset()
    memory, worked = used(redis), processor(pid)
    longest_outbox = 0
    with probing(port) as waits:
        started = time.monotonic()
        ask(port, "PUT", f"/admin/tags/{TAG}/users?source=profile", b"".join(b"%d\n" % uid for uid in uids))
        report.figure(f"{what}, until it counts", "s", time.monotonic() - started, headline=True)
        while redis.exists(keys.PROPAGATING):
            longest_outbox = max(longest_outbox, int(redis.get(keys.OUTBOX_BYTES) or 0))
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - started > MAX_SECONDS:
                raise RuntimeError("it does not propagate")
        report.figure(f"{what}, until it is propagated", "s", time.monotonic() - started)
        while redis.xlen(keys.OUTBOX) > 100:
            time.sleep(LOOK_SECONDS)
        report.figure(f"{what}, until it is archived", "s", time.monotonic() - started)
    report.figure(f"{what}, processor time of Redis", "s", processor(pid) - worked)
    info = redis.info("memory")
    report.figure(f"{what}, Redis has more", "MiB", used(redis) - memory)
    report.figure(f"{what}, Redis had at most", "MiB", int(info["used_memory_peak"]) / 2**20)
    report.figure(f"{what}, outbox at most", "MiB", longest_outbox / 2**20)
    waited(report, what, waits, P99_MILLISECONDS)
    slow = [entry["duration"] / 1000 for entry in redis.slowlog_get(100_000)]
    report.figure(f"{what}, longest command of Redis", "ms", max(slow, default=1.0))


def waited(report: Report, what: str, waits: Waits, most: float | None) -> None:
    for name, found in zip(("pull", "message"), waits, strict=True):
        report.figure(
            f"{what}, {name}, p99", "ms", statistics.quantiles(found, n=100, method="inclusive")[98], at_most=most
        )
        report.figure(f"{what}, {name}, longest", "ms", max(found))


def used(redis: "Redis") -> float:
    return int(redis.info("memory")["used_memory"]) / 2**20


@contextlib.contextmanager
def probing(port: int) -> Iterator[Waits]:
    """Yields what a client waits for pulls, and one for messages, inside the block."""
    spawning = multiprocessing.get_context("spawn")
    ended, ready, found = spawning.Event(), spawning.Barrier(3), spawning.Queue()
    probes = [spawning.Process(target=each, args=(port, ready, ended, found)) for each in (pull, send)]
    for probe in probes:
        probe.start()
    ready.wait(60)
    waits = Waits([], [])
    try:
        yield waits
    finally:
        ended.set()
        for _ in probes:
            name, milliseconds = found.get(timeout=60)
            getattr(waits, name).extend(milliseconds)
        for probe in probes:
            probe.join()


def pull(port: int, ready: Any, ended: Event, found: Any) -> None:
    """Some of the holders, from where they stand."""
    die_with_parent()
    client, took, number = Client(port), [], 0
    cursor = time.time_ns() // 1000
    ready.wait()
    while not ended.is_set():
        number += 1
        took.append(client.pull(FIRST + number % 1000 * 13, cursor)[1])
        time.sleep(PAUSE_SECONDS)
    found.put(("pulls", took))


def send(port: int, ready: Any, ended: Event, found: Any) -> None:
    die_with_parent()
    connection, took, number = http.client.HTTPConnection("127.0.0.1", port), [], 0
    headers = {"Authorization": f"Bearer {HOOK_TOKEN}", "Content-Type": "application/json"}
    ready.wait()
    while not ended.is_set():
        number += 1
        payload = b64encode(b'{"id":"%d-%d","type":"text","body":1}' % (number, time.time_ns())).decode()
        body = {
            **{"hook": "message", "event": "message.publish", "id": f"{number}", "payload_b64": payload},
            **{"clientid": "1-phone", "username": "1", "topic": f"single/{1000 + number % 1000}", "qos": 1},
            **{"publish_received_at": time.time_ns() // 1_000_000, "rest": False, "node": "bench", "timestamp": 1},
        }
        started = time.perf_counter()
        connection.request("POST", "/hooks/message", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - started) * 1000)
        if answer.status != 204:
            raise RuntimeError(f"a message was answered {answer.status}")
        time.sleep(PAUSE_SECONDS)
    found.put(("messages", took))


def ask(port: int, method: str, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MAX_SECONDS)
    connection.request(method, path, body, {"Authorization": f"Bearer {ADMIN_TOKEN}"})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 204:
        raise RuntimeError(f"{method} {path}: {answer.status} {said!r}")
    connection.close()
