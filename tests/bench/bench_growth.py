"""Measures whether rates stay as users and timelines grow: the aim is flat within 15 %, as a ratio to the smallest.

Redis is the part that could become slower; its processor time is given, which does not depend on other work of the
machine.

Populations: each has its own Redis and service on the same cores, and they are measured in turn. Every user has a
message that they have not pulled; 1,000 of them, spread over the population, pull it, and messages go between all
of them. A broadcast is one webhook call on `business/global`, one after the other; everybody has it in their next
pull. Timelines: in one Redis, users with that many messages each; they gradually get more, and pull the newest
ten. Nobody empties the outbox.

Redis does not rewrite its log while sizes are compared, because that would slow the one whose turn it is; what it
costs is a separate figure, with the largest population, whose log takes longest.
"""

import contextlib
import http.client
import json
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from tests.bench import pulls
from tests.bench.fill import TEXT, fill, message
from tests.bench.report import Report
from tests.bench.service import HOOK_TOKEN, unarchived, wrk, wrk_script
from tests.bench.usage import processor

CONNECTIONS = 64
FIRST = 1_000_000
DAY = 86_400_000_000
FLAT = 0.85
PULLING = 1000
TAIL = 10
"""Messages of a long timeline that are pulled."""
APART = 60_000_000
"""Microseconds between the first messages of timelines of different lengths, more than any length has messages."""
AT_ONCE = 20
"""Broadcasts to one population before the next."""


@dataclass(frozen=True)
class Load:
    """One size of one thing: where its service listens, and what wrk sends there."""

    port: int
    redis: "Redis"
    redis_pid: int
    messages: Path
    pulls: Path
    somebody: int


def run(report: Report) -> None:
    populations = report.choose(
        quick=(100, 1000), usual=(1000, 10_000, 100_000, 1_000_000), full=(1000, 10_000, 100_000, 1_000_000)
    )
    # Entries of a timeline, and how many timelines of that length: the fewer, the more each grows in a round.
    lengths = report.choose(
        quick={10: 10, 100: 10},
        usual={10: 10_000, 100: 1000, 1000: 100, 10_000: 10, 100_000: 2},
        full={10: 10_000, 100: 1000, 1000: 1000, 10_000: 100, 100_000: 20},
    )
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        by_users = {f"{people:,} users": population(stack, directory, people) for people in populations}
        compare(report, by_users)
        broadcast(report, by_users)
        rewrite(report, *list(by_users.items())[-1])
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        by_length = timelines(stack, Path(name), lengths)
        compare(report, {f"timelines of {length:,}": load for length, load in by_length.items()})


def started(stack: contextlib.ExitStack, directory: Path) -> tuple["Redis", int, int]:
    """Returns a Redis, its process, and the port of a service on it, all gone with the stack."""
    server, service = unarchived(stack, directory)
    redis = Redis.from_url(server.url)
    redis.config_set("auto-aof-rewrite-percentage", 0)
    return redis, server.pid, service.port


def population(stack: contextlib.ExitStack, directory: Path, people: int) -> Load:
    directory = directory / str(people)
    redis, pid, port = started(stack, directory)
    since = time.time_ns() // 1000 - DAY
    fill(redis, (message(since + each, f"single/{FIRST + each}", 1) for each in range(people)))
    pulling = range(FIRST, FIRST + people, max(1, people // PULLING))
    requests = [pulls.request(uid, since - 1) for uid in pulling]
    return Load(port, redis, pid, wrk_script(directory, FIRST, people), pulls.wrk_script(directory, requests), FIRST)


def timelines(stack: contextlib.ExitStack, directory: Path, lengths: Mapping[int, int]) -> dict[int, Load]:
    redis, pid, port = started(stack, directory)
    loads = {}
    for place, (length, people) in enumerate(lengths.items()):
        first = FIRST * (place + 2)
        # No two messages of a store have the same id.
        since = time.time_ns() // 1000 - DAY + place * APART
        fill(
            redis,
            (
                message(since + each * people + user, f"single/{first + user}", 1)
                for each in range(length)
                for user in range(people)
            ),
        )
        cursor = since + (length - TAIL) * people - 1
        own = directory / str(length)
        own.mkdir()
        requests = [pulls.request(first + user, cursor, TAIL) for user in range(people)]
        loads[length] = Load(port, redis, pid, wrk_script(own, first, people), pulls.wrk_script(own, requests), first)
    return loads


def compare(report: Report, loads: Mapping[str, Load]) -> None:
    """In turn, every other round backwards; each rate, and its ratio to the smallest's of the same round."""
    seconds = report.choose(quick=1, usual=2, full=10)
    rounds = report.choose(quick=1, usual=6, full=7)
    # Pulls first, as messages are what they would pull.
    smallest, *others = loads
    for what, unit in (("pulls", "pulls/s"), ("messages", "messages/s")):
        for load in loads.values():
            wrk(getattr(load, what), load.port, CONNECTIONS, 1)
        rates: dict[str, list[float]] = {name: [] for name in loads}
        costs: dict[str, list[float]] = {name: [] for name in loads}
        for number in range(rounds):
            for name, load in list(loads.items())[:: -1 if number % 2 else 1]:
                before = processor(load.redis_pid)
                rates[name].append(wrk(getattr(load, what), load.port, CONNECTIONS, seconds)[0])
                costs[name].append((processor(load.redis_pid) - before) / seconds / rates[name][-1] * 1e6)
        took = {name: f"Redis took {statistics.median(cost):.0f} µs of each" for name, cost in costs.items()}
        for name, values in rates.items():
            report.figure(f"{what}, {name}", unit, values, remark=took[name])
        for name in others:
            ratios = [much / little for much, little in zip(rates[name], rates[smallest], strict=True)]
            remark = f"{took[name]}, and {statistics.median(costs[smallest]):.0f} with {smallest}"
            report.figure(f"{what}, {name} to {smallest}", "ratio", ratios, at_least=FLAT, remark=remark)
        report.chart(f"{what.capitalize()}, {smallest} and more", [f"{what}, {name}" for name in loads])


def rewrite(report: Report, name: str, load: Load) -> None:
    """Messages go on while Redis writes its log anew, in a process that wants a core for itself."""
    before, _ = wrk(load.messages, load.port, CONNECTIONS, 2)
    started, rates = time.monotonic(), list[float]()
    load.redis.bgrewriteaof()
    while not rates or load.redis.info("persistence")["aof_rewrite_in_progress"]:
        rates.append(wrk(load.messages, load.port, CONNECTIONS, 1)[0])
    report.figure(f"the log of {name} written anew under load", "s", time.monotonic() - started)
    report.figure(f"messages meanwhile, {name}, to messages before", "ratio", [rate / before for rate in rates])


def broadcast(report: Report, loads: Mapping[str, Load]) -> None:
    """In turn, a few at a time."""
    rounds = report.choose(quick=2, usual=10, full=50)
    times: dict[str, list[float]] = {name: [] for name in loads}
    posts = {name: Posts(load.port) for name, load in loads.items()}
    for _ in range(rounds):
        for name, to in posts.items():
            times[name] += (to.broadcast() for _ in range(AT_ONCE))
    for name, load in loads.items():
        with contextlib.closing(pulls.Client(load.port)) as client:
            answer, _ = client.pull(load.somebody, posts[name].began, 1000)
        got = sum(each["topic"] == "business/global" for each in answer["messages"])
        if got != rounds * AT_ONCE:
            raise RuntimeError(f"{got} of {rounds * AT_ONCE} broadcasts pulled")
        report.figure(f"a broadcast to {name}, p50", "ms", statistics.median(times[name]), headline=True)
        report.figure(f"a broadcast to {name}, longest", "ms", max(times[name]))


class Posts:
    """Webhook calls over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._count = 0
        self.began = time.time_ns() // 1000

    def broadcast(self) -> float:
        """As EMQX tells of one that came over its REST API; the milliseconds until it was answered."""
        self._count += 1
        payload = f'{{"id": "{self.began}-{self._count}", "type": "text", "body": {{"text": "{TEXT}"}}}}'
        body = {
            **{"hook": "message", "event": "message.publish", "node": "emqx@127.0.0.1", "timestamp": 1},
            **{"clientid": "http_api", "username": "undefined", "topic": "business/global", "qos": 1, "rest": True},
            **{"id": f"{self._count:032x}", "publish_received_at": time.time_ns() // 1_000_000},
            "payload_b64": b64encode(payload.encode()).decode(),
        }
        headers = {"Authorization": f"Bearer {HOOK_TOKEN}", "Content-Type": "application/json"}
        started = time.perf_counter()
        self._connection.request("POST", "/hooks/message", json.dumps(body), headers)
        answer = self._connection.getresponse()
        said = answer.read()
        took = (time.perf_counter() - started) * 1000
        if answer.status != 204:
            raise RuntimeError(f"{answer.status} {said!r}")
        return took
