"""Measures `serve --workers N`: messages and empty pulls with one process on the port, with two, and with four.

Each number of workers has its own Redis and service, and they are measured in turn; nobody empties the outbox.
Because there are fewer cores here than that takes, a worker first gets a quarter of one: it is stopped for three
turns of four, so that four workers share one core, and Redis and the load generator have the other. Then twice the
workers are twice the cores. After that all run freely on the existing cores, and the rate can rise no further than
these allow.
"""

import contextlib
import itertools
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from tests.bench import pulls
from tests.bench.fill import fill, message
from tests.bench.report import Report
from tests.bench.service import unarchived, wrk, wrk_script
from tests.bench.usage import processor
from tests.servers import children

WORKERS = (1, 2, 4)
QUARTERS = 4
TURN_SECONDS = 0.025
CONNECTIONS = 256
"""The kernel spreads them by chance: with fewer, one worker may get half as many again as another."""
USERS = 1000
FLAT = 0.85
DAY = 86_400_000_000


@dataclass(frozen=True)
class Served:
    port: int
    workers: tuple[int, ...]
    redis: int


@dataclass(frozen=True)
class Round:
    """Requests a second, and microseconds of processor time of each."""

    rate: float
    workers: float
    redis: float


Rounds = Mapping[int, list[Round]]
"""By the number of workers."""


def run(report: Report) -> None:
    seconds = report.choose(quick=1, usual=3, full=10)
    rounds = report.choose(quick=1, usual=5, full=9)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        served = {number: _serve(stack, directory, number) for number in WORKERS}
        asked = [pulls.request(1000 + user, time.time_ns() // 1000 - 1) for user in range(USERS)]
        scripts = {"pulls": pulls.wrk_script(directory, asked), "messages": wrk_script(directory)}
        for what, script in scripts.items():
            for each in served.values():
                wrk(script, each.port, CONNECTIONS, 1)
            quarters: Rounds = {number: [] for number in WORKERS}
            whole: Rounds = {number: [] for number in WORKERS}
            for turn in range(rounds):
                for number in WORKERS[:: -1 if turn % 2 else 1]:
                    with _in_turns(served[number].workers):
                        quarters[number].append(_round(script, served[number], seconds))
                    whole[number].append(_round(script, served[number], seconds))
            _tell(report, f"{what}, a quarter of a core each", quarters, scales=True)
            _tell(report, what, whole, scales=False)


def _serve(stack: contextlib.ExitStack, directory: Path, number: int) -> Served:
    """Returns users with a message each, which none of them has to pull."""
    redis, started = unarchived(stack, directory / str(number), number)
    since = time.time_ns() // 1000 - DAY
    fill(Redis.from_url(redis.url), (message(since + user, f"single/{1000 + user}", 1) for user in range(USERS)))
    return Served(started.port, tuple(children(started.pid)) if number > 1 else (started.pid,), redis.pid)


@contextlib.contextmanager
def _in_turns(workers: tuple[int, ...]) -> Iterator[None]:
    """Lets each process run a quarter of the time inside the block, and no two of them at once."""
    done = threading.Event()

    def take_turns() -> None:
        for quarter in itertools.cycle(range(QUARTERS)):
            running = workers[quarter : quarter + 1]
            _signal(running, signal.SIGCONT)
            if done.wait(TURN_SECONDS):
                return
            _signal(running, signal.SIGSTOP)

    turns = threading.Thread(target=take_turns)
    _signal(workers, signal.SIGSTOP)
    turns.start()
    try:
        yield
    finally:
        done.set()
        turns.join()
        _signal(workers, signal.SIGCONT)


def _signal(pids: tuple[int, ...], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def _round(script: Path, served: Served, seconds: float) -> Round:
    workers, redis = processor(*served.workers), processor(served.redis)
    rate, _ = wrk(script, served.port, CONNECTIONS, seconds)
    share = 1e6 / (rate * seconds)
    return Round(rate, (processor(*served.workers) - workers) * share, (processor(served.redis) - redis) * share)


def _tell(report: Report, what: str, found: Rounds, *, scales: bool) -> None:
    """scales: whether the number of workers is all that limits the rate."""
    for number, rounds in found.items():
        workers = statistics.median(each.workers for each in rounds)
        redis = statistics.median(each.redis for each in rounds)
        remark = f"each takes {workers:.0f} µs of the workers' processor time, and {redis:.0f} of Redis's"
        title = f"{what}, {number} worker{'' if number == 1 else 's'}"
        report.figure(title, "/s", [each.rate for each in rounds], remark=remark)
        if number > 1:
            ratios = [each.rate / alone.rate for alone, each in zip(found[1], rounds, strict=True)]
            at_least = number * FLAT if scales else None
            report.figure(f"{title} to 1", "ratio", ratios, at_least=at_least, remark=remark, headline=True)
