"""Measures one-to-one messages accepted and archived per second, beside the alternatives that one could use or write.

All write into the same MariaDB, with the same number of connections, one after the other in each round: 64, as our
rules have one EMQX node open them, and 256, as four nodes do. A message counts when its row is committed.

* **emqx-im**: `emqx-im serve` takes webhook calls (wrk) into Redis, and its archiver carries them on into MariaDB,
  one row for each message. EMQX itself, which delivers live and calls the webhook, is not in the figure, nor is
  its memory.
* **ejabberd**: XMPP clients that are all online; `mod_mam` keeps every message in SQL (its own schema, one row for
  the sender and one for the receiver, with an index for full text search) before it goes on, and it is delivered.
  That is more work: live delivery and the second row. `delivering only` is ejabberd without the archive, and shows
  how much of the difference that is. Settings: `default: always`, 32 connections to the database, no limits of
  rate, log level error.
* **plain**: an aiohttp handler, `tests/bench/plain.py`: one `ZADD` and one `INSERT` for each message, through the
  pools of redis-py and asyncmy. It recognises no repeats, gives no ids, and loses one of the two writes when the
  other fails.

The page of ingest says what stands in the way of the aim at 64 connections.

EMQX's own share was not measured here. On another two-core machine EMQX 5.8.9 took 20,000 publishes/s (QoS 1, 16
publishers), and 2,300 to 2,900 messages/s through its HTTP action into a server that does nothing: on two cores
the broker limits the whole chain, wherever the webhook's limit is.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from store.redis import keys
from tests.bench.ejabberd import EjabberdServer, make_database, sql
from tests.bench.report import Report, written
from tests.bench.service import process, see, serving, timed_out, wrk, wrk_script
from tests.bench.usage import memory, processor
from tests.bench.xmpp import SILENT_SECONDS
from tests.servers import MariaServer, RedisServer, die_with_parent, free_port, program

CONNECTIONS = (64, 256)
UNDER_WAY = 8
"""Messages each XMPP sender has on the way: with more, ejabberd was hardly faster."""
AIM = 5
DELIVERING = "ejabberd, delivering only"

ARCHIVED = {
    "emqx-im": "emqx-im: archived",
    "plain": "plain: archived",
    "ejabberd": "ejabberd: archived and delivered",
}

Rates = dict[str, float]
"""The figures of a contestant's round, by name; `messages` is how many there were."""

Contestant = Callable[[int], Rates]
"""One round with this number of connections."""


class Contest:
    """Runs everybody on one MariaDB; what is started is stopped with the stack."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, seconds: int) -> None:
        self._stack = stack
        self._directory = directory
        self._seconds = seconds
        self._script = wrk_script(directory)
        self.pids: dict[str, dict[str, int]] = {}
        self.maria = MariaServer(directory / "maria")
        self.maria.start()
        stack.callback(self.maria.stop)

    def emqx_im(self) -> Contestant:
        redis = self._redis("emqx-im")
        see(redis)
        sql(self.maria, "CREATE DATABASE im")
        started = self._stack.enter_context(serving(self._directory, redis, IM_ARCHIVE_URL=self.maria.url("im")))
        self.pids["emqx-im"] = {"service": started.pid, "Redis": redis.pid}
        client = Redis.from_url(redis.url)

        def run(connections: int) -> Rates:
            before, begin = self._rows("im.message"), time.monotonic()
            accepted, _ = wrk(self._script, started.port, connections, self._seconds)
            while client.xlen(keys.OUTBOX):
                time.sleep(0.01)
            took = time.monotonic() - begin
            messages = self._rows("im.message") - before
            return {"messages": messages, "accepted": accepted, "archived": messages / took}

        return run

    def plain(self) -> Contestant:
        redis, port = self._redis("plain"), free_port()
        sql(self.maria, "CREATE DATABASE plain")
        command = [sys.executable, "-m", "tests.bench.plain", str(port), redis.url, str(self.maria.port), "plain"]
        pid = self._stack.enter_context(process(command, port))
        self.pids["plain"] = {"handler": pid, "Redis": redis.pid}

        def run(connections: int) -> Rates:
            before = self._rows("plain.message")
            rate, _ = wrk(self._script, port, connections, self._seconds)
            return {"messages": self._rows("plain.message") - before, "archived": rate}

        return run

    def ejabberd(self, name: str, *, archive: bool) -> Contestant:
        database = name.replace(" ", "_").replace(",", "")
        make_database(self.maria, database, max(CONNECTIONS))
        server = EjabberdServer(self._directory / database, self.maria, database, archive=archive)
        server.start()
        self._stack.callback(server.stop)
        self.pids[name] = {"ejabberd": server.pid}

        def run(connections: int) -> Rates:
            before = self._rows(f"{database}.archive")
            arguments = [str(argument) for argument in (server.port, connections, UNDER_WAY, self._seconds)]
            command = [sys.executable, "-m", "tests.bench.xmpp", *arguments]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
            answer: dict[str, float] = json.loads(done.stdout)
            rows = self._rows(f"{database}.archive") - before
            if answer["came"] < answer["sent"]:
                timed_out.append(
                    f"{name}, {connections} connections: {answer['came']:.0f} of {answer['sent']:.0f} messages came, "
                    f"then none for {SILENT_SECONDS} seconds; the rate is of those that came while it was measured."
                )
            elif archive and rows != 2 * answer["sent"]:
                raise RuntimeError(f"{answer['sent']} messages sent, and {rows} rows archived")
            return {"messages": answer["sent"], "archived": answer["rate"], "load generator": answer["processor"]}

        return run

    def spent(self, name: str) -> dict[str, float]:
        """Returns seconds of processor time of each process that works for a contestant, so far."""
        pids = {**self.pids[name], "MariaDB": self.maria.pid}
        return {part: processor(pid) for part, pid in pids.items()}

    def _redis(self, name: str) -> RedisServer:
        redis = RedisServer(self._directory / f"redis-{name}", program("redis-server"))
        redis.start()
        self._stack.callback(redis.stop)
        return redis

    def _rows(self, table: str) -> int:
        return int(sql(self.maria, f"SELECT COUNT(*) FROM {table}"))


def run(report: Report) -> None:
    seconds = report.choose(quick=1, usual=6, full=30)
    rounds = report.choose(quick=1, usual=3, full=5)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        contest = Contest(stack, Path(name), seconds)
        contestants = {
            "emqx-im": contest.emqx_im(),
            "plain": contest.plain(),
            "ejabberd": contest.ejabberd("ejabberd", archive=True),
            DELIVERING: contest.ejabberd(DELIVERING, archive=False),
        }
        for connections in CONNECTIONS:
            _measure(report, contest, contestants, connections, rounds)
        report.chart(
            "Messages accepted and archived",
            [_with(title, connections) for connections in CONNECTIONS for title in ARCHIVED.values()],
        )
        for name, pids in contest.pids.items():
            for part, pid in pids.items():
                report.figure(f"memory, {name}: {part}", "MiB", memory(pid), remark="PSS, after the runs")


def _measure(
    report: Report, contest: Contest, contestants: dict[str, Contestant], connections: int, rounds: int
) -> None:
    found: dict[str, list[Rates]] = {name: [] for name in contestants}
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            before = contest.spent(name)
            rates = contestant(connections)
            found[name].append(rates)
            after = contest.spent(name)
            spent[name].append({part: (after[part] - before[part]) / rates["messages"] * 1e6 for part in after})
    _rates(report, found, connections, {name: statistics.median(map(total, each)) for name, each in spent.items()})
    _spent(report, spent, connections)
    load = [each["load generator"] * 100 for each in found["ejabberd"] + found[DELIVERING]]
    report.figure(_with("the XMPP load generator's processor time", connections), "% of a core", load)


def total(parts: dict[str, float]) -> float:
    return sum(parts.values())


def _with(title: str, connections: int) -> str:
    return f"{title}, {connections} connections"


def _rates(report: Report, found: dict[str, list[Rates]], connections: int, took: dict[str, float]) -> None:
    """took: microseconds of processor time of a message."""
    accepted = [each["accepted"] for each in found["emqx-im"]]
    report.figure(_with("emqx-im: accepted", connections), "messages/s", accepted)
    for name, title in ARCHIVED.items():
        report.figure(_with(title, connections), "messages/s", [each["archived"] for each in found[name]])
    delivered = [each["archived"] for each in found[DELIVERING]]
    report.figure(_with(f"{DELIVERING}: delivered", connections), "messages/s", delivered)
    for peer in ("ejabberd", "plain"):
        for rate in ("accepted", "archived"):
            both = zip(found["emqx-im"], found[peer], strict=True)
            report.figure(
                _with(f"emqx-im, {rate}, to {peer}, archived", connections),
                "ratio",
                [ours[rate] / theirs["archived"] for ours, theirs in both],
                at_least=AIM,
                remark=f"a message takes {took[peer]:.0f} µs of processor time there, {took['emqx-im']:.0f} here",
            )


def _spent(report: Report, spent: dict[str, list[dict[str, float]]], connections: int) -> None:
    """Does not depend on what else the machine does, nor on its disk."""
    titles = []
    for name, rounds in spent.items():
        titles.append(_with(f"processor time, {name}", connections))
        parts = {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}
        remark = ", ".join(f"{part} {written(value)}" for part, value in parts.items())
        report.figure(titles[-1], "µs a message", [total(each) for each in rounds], remark=remark)
    report.chart(f"Processor time of a message, MariaDB's included, {connections} connections", titles)
