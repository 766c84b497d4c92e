"""Measures pulls over loopback HTTP: empty ones, which are the most common; with many channels and messages; and
after absence.

An empty pull is compared with an aiohttp handler that makes one call to Redis, `tests/bench/one_call.py`, and
neither checks a token nor limits a rate. p50 and p99 are those of one client that asks again after each answer.
Channels are read-mode groups, none of them hot, all of them with news as long as there are as many messages; the
limit is 1,000 messages for each answer.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redis import Redis

from store.addresses import Group
from tests.bench.fill import fill, join, message
from tests.bench.pulls import Client, request, wrk_script
from tests.bench.report import Report
from tests.bench.service import Serving, process, serving, wrk
from tests.bench.service import wrk_script as hook_script
from tests.bench.usage import processor
from tests.servers import RedisServer, free_port, program

CONNECTIONS = (16, 64)
USERS = 1000
CHANNELS = (1, 5, 50, 500)
MESSAGES = (10, 200, 1000)
DAY = 86_400_000_000
A_DAY = 200
"""Messages a day that await who was away for a week."""


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        server = RedisServer(directory / "redis", program("redis-server"))
        server.start()
        stack.callback(server.stop)
        redis = Redis.from_url(server.url)
        service = stack.enter_context(serving(directory, server, IM_HOT_HITS="1e9"))
        one_call_port = free_port()
        one_call = [sys.executable, "-m", "tests.bench.one_call", str(one_call_port), server.url]
        other = Serving(one_call_port, stack.enter_context(process(one_call, one_call_port)))
        client = Client(service.port)
        stack.callback(client.close)
        empty(report, directory, redis, server.pid, {"one call": other, "empty pulls": service})
        connecting(report, directory, service.port)
        channels(report, redis, client)
        coming_back(report, redis, client)


def empty(report: Report, directory: Path, redis: Redis, redis_pid: int, asked: dict[str, Serving]) -> None:
    """Users with a message each, all of whom have pulled it."""
    seconds = report.choose(quick=1, usual=3, full=10)
    rounds = report.choose(quick=1, usual=5, full=9)
    now = time.time_ns() // 1000 - DAY
    fill(redis, (message(now + number, f"single/{1000 + number}", 1) for number in range(USERS)))
    script = wrk_script(directory, [request(1000 + number, time.time_ns() // 1000 - 1) for number in range(USERS)])
    for port, _ in asked.values():
        wrk(script, port, 64, 1)
    spent: dict[str, list[float]] = {name: [] for name in asked}
    for connections in CONNECTIONS:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for _ in range(rounds):
            for name, (port, pid) in asked.items():
                before = processor(pid, redis_pid)
                found[name].append(wrk(script, port, connections, seconds))
                spent[name].append((processor(pid, redis_pid) - before) / found[name][-1][0] / seconds * 1e6)
        for name, rates in found.items():
            report.figure(f"{name}, {connections} connections", "pulls/s", [rate for rate, _ in rates])
        both = zip(found["empty pulls"], found["one call"], strict=True)
        ratios = [ours / theirs for (ours, _), (theirs, _) in both]
        report.figure(f"empty pulls to one call, {connections} connections", "ratio", ratios, headline=True)
        report.figure(f"empty pulls, p99, {connections} connections", "ms", [p99 for _, p99 in found["empty pulls"]])
    for name, values in spent.items():
        report.figure(f"processor time, {name}, Redis's included", "µs a pull", values)
    titles = [f"{name}, {connections} connections" for connections in CONNECTIONS for name in asked]
    report.chart("Empty pulls", titles)


def connecting(report: Report, directory: Path, port: int) -> None:
    """Empty pulls as phones make them, each over a connection of its own; the messages meanwhile are for others."""
    seconds = report.choose(quick=1, usual=3, full=10)
    rounds = report.choose(quick=1, usual=5, full=9)
    since = time.time_ns() // 1000 - 1
    asked = [request(1000 + number, since) for number in range(USERS)]
    closing = [each.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") for each in asked]
    pulling, posting = wrk_script(directory, closing), hook_script(directory, 1000 + USERS)
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(wrk(pulling, port, 64, seconds))
        with ThreadPoolExecutor() as pool:
            posts = pool.submit(wrk, posting, port, 64, seconds)
            beside.append(wrk(pulling, port, 64, seconds))
            posts.result()
    for name, found in (("", alone), (", 64 more post messages", beside)):
        title = f"empty pulls, each over a new connection, 64 clients{name}"
        report.figure(title, "pulls/s", [rate for rate, _ in found], headline=True)
        report.figure(f"{title}, p99", "ms", [p99 for _, p99 in found])


def channels(report: Report, redis: Redis, client: Client) -> None:
    pulls = report.choose(quick=10, usual=150, full=1000)
    titles = []
    for number, count in enumerate(CHANNELS):
        for place, messages in enumerate(MESSAGES):
            uid = 10_000 + number * 10 + place
            first_gid = uid * 1000
            join(redis, uid, [Group(first_gid + each).channel for each in range(count)])
            begin = time.time_ns() // 1000 - DAY
            fill(redis, (message(begin + each, f"group/{first_gid + each % count}", 1) for each in range(messages)))
            times = []
            for _ in range(pulls):
                answer, took = client.pull(uid, begin - 1, 1000)
                if len(answer["messages"]) != messages or answer["more"]:
                    raise RuntimeError(f"{len(answer['messages'])} of {messages} messages pulled")
                times.append(took)
            title = f"{messages:,} messages of {count} channel{'s' if count > 1 else ''}"
            report.figure(f"{title}, p50", "ms", statistics.median(times))
            report.figure(f"{title}, p99", "ms", statistics.quantiles(times, n=100)[98])
            titles.append(f"{title}, p50")
    report.chart("A pull, by messages and channels", titles)


def coming_back(report: Report, redis: Redis, client: Client) -> None:
    """Pulls to the end for a user who was away for a week, in pages of 200."""
    rounds = report.choose(quick=1, usual=20, full=100)
    uid, count = 20_000, 7 * A_DAY
    begin = time.time_ns() // 1000 - 7 * DAY + 60_000_000
    fill(redis, (message(begin + each * (DAY // A_DAY), f"single/{uid}", 1) for each in range(count)))
    whole = []
    for _ in range(rounds):
        cursor, got, more, spent = 0, 0, True, 0.0
        while more:
            answer, took = client.pull(uid, cursor)
            cursor, more = answer["last_id"], answer["more"]
            got, spent = got + len(answer["messages"]), spent + took
        if got != count:
            raise RuntimeError(f"{got} of {count} messages pulled")
        whole.append(spent)
    report.figure(f"a week, {count:,} messages in pages of 200", "ms", whole, headline=True)
