"""One-to-one messages accepted and archived per second, beside what one would take or write instead.

All into the same MariaDB, with the same number of connections, one after the other in each round. A message counts when
its row is committed.

* **emqx-im**: `emqx-im serve` takes webhook calls (wrk) into Redis, its archiver carries them on into MariaDB; one row
  a message. EMQX itself, which delivers live and calls the webhook, is not in the figure, nor is its memory.
* **ejabberd**: XMPP clients who are all online; `mod_mam` keeps every message in SQL (its own schema, one row for the
  sender and one for the receiver, with an index for full text search) before it goes on, and it is delivered. That is
  more work: live delivery and the second row. `delivering only` is ejabberd without the archive, and shows what of it
  that is. Settings: `default: always`, 32 connections to the database, no limits of rate, log level error.
* **plain**: an aiohttp handler, `tests/bench/plain.py`: one `ZADD` and one `INSERT` a message, by the pools that
  redis-py and asyncmy make when nothing is said. It recognises no repeat, gives no id, and loses one of both when the
  other fails.

EMQX's own share was not measured here. On another two-core machine EMQX 5.8.9 took 20,000 publishes/s (QoS 1, 16
publishers), and 2,300 to 2,900 messages/s through its HTTP action into a server that does nothing: on two cores the
broker is the bound of the whole chain, wherever the webhook's is.
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

from store import keys
from tests.bench.ejabberd import EjabberdServer, make_database, sql
from tests.bench.report import Report, written
from tests.bench.service import process, serving, wrk, wrk_script
from tests.bench.usage import memory, processor
from tests.servers import MariaServer, RedisServer, die_with_parent, free_port, program

CONNECTIONS = 64
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
"""What a contestant's round gave, by name; `messages` is how many there were."""


class Contest:
    """Everybody on one MariaDB; who is started goes with the stack."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, seconds: int) -> None:
        self._stack = stack
        self._directory = directory
        self._seconds = seconds
        self._script = wrk_script(directory)
        self.pids: dict[str, dict[str, int]] = {}
        self.maria = MariaServer(directory / "maria")
        self.maria.start()
        stack.callback(self.maria.stop)

    def emqx_im(self) -> Callable[[], Rates]:
        redis = self._redis("emqx-im")
        sql(self.maria, "CREATE DATABASE im")
        started = self._stack.enter_context(serving(self._directory, redis, IM_ARCHIVE_URL=self.maria.url("im")))
        self.pids["emqx-im"] = {"service": started.pid, "Redis": redis.pid}
        client = Redis.from_url(redis.url)

        def run() -> Rates:
            before, begin = self._rows("im.message"), time.monotonic()
            accepted, _ = wrk(self._script, started.port, CONNECTIONS, self._seconds)
            while client.xlen(keys.OUTBOX):
                time.sleep(0.01)
            took = time.monotonic() - begin
            messages = self._rows("im.message") - before
            return {"messages": messages, "accepted": accepted, "archived": messages / took}

        return run

    def plain(self) -> Callable[[], Rates]:
        redis, port = self._redis("plain"), free_port()
        sql(self.maria, "CREATE DATABASE plain")
        command = [sys.executable, "-m", "tests.bench.plain", str(port), redis.url, str(self.maria.port), "plain"]
        pid = self._stack.enter_context(process(command, port))
        self.pids["plain"] = {"handler": pid, "Redis": redis.pid}

        def run() -> Rates:
            before = self._rows("plain.message")
            rate, _ = wrk(self._script, port, CONNECTIONS, self._seconds)
            return {"messages": self._rows("plain.message") - before, "archived": rate}

        return run

    def ejabberd(self, name: str, *, archive: bool) -> Callable[[], Rates]:
        database = name.replace(" ", "_").replace(",", "")
        make_database(self.maria, database, CONNECTIONS)
        server = EjabberdServer(self._directory / database, self.maria, database, archive=archive)
        server.start()
        self._stack.callback(server.stop)
        self.pids[name] = {"ejabberd": server.pid}
        command = [sys.executable, "-m", "tests.bench.xmpp"]
        command += [str(argument) for argument in (server.port, CONNECTIONS, UNDER_WAY, self._seconds)]

        def run() -> Rates:
            before = self._rows(f"{database}.archive")
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
            answer: dict[str, float] = json.loads(done.stdout)
            rows = self._rows(f"{database}.archive") - before
            if archive and rows != 2 * answer["sent"]:
                raise RuntimeError(f"{answer['sent']} messages sent, and {rows} rows archived")
            return {"messages": answer["sent"], "archived": answer["rate"], "load generator": answer["processor"]}

        return run

    def spent(self, name: str) -> dict[str, float]:
        """Seconds of processor time of each process that works for a contestant, so far."""
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
        found: dict[str, list[Rates]] = {name: [] for name in contestants}
        spent: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, contestant in contestants.items():
                before = contest.spent(name)
                rates = contestant()
                found[name].append(rates)
                after = contest.spent(name)
                spent[name].append({part: (after[part] - before[part]) / rates["messages"] * 1e6 for part in after})
        _rates(report, found, {name: statistics.median(map(total, rounds)) for name, rounds in spent.items()})
        _spent(report, spent)
        load = [each["load generator"] * 100 for each in found["ejabberd"] + found[DELIVERING]]
        report.figure("the XMPP load generator's processor time", "% of a core", load)
        for name, pids in contest.pids.items():
            for part, pid in pids.items():
                report.figure(f"memory, {name}: {part}", "MiB", memory(pid), remark="PSS, after the runs")


def total(parts: dict[str, float]) -> float:
    return sum(parts.values())


def _rates(report: Report, found: dict[str, list[Rates]], took: dict[str, float]) -> None:
    """took: microseconds of processor time of a message."""
    report.figure("emqx-im: accepted", "messages/s", [each["accepted"] for each in found["emqx-im"]])
    for name, title in ARCHIVED.items():
        report.figure(title, "messages/s", [each["archived"] for each in found[name]])
    report.figure(f"{DELIVERING}: delivered", "messages/s", [each["archived"] for each in found[DELIVERING]])
    for peer in ("ejabberd", "plain"):
        for rate in ("accepted", "archived"):
            both = zip(found["emqx-im"], found[peer], strict=True)
            ratios = [ours[rate] / theirs["archived"] for ours, theirs in both]
            report.figure(
                f"emqx-im, {rate}, to {peer}, archived",
                "ratio",
                ratios,
                at_least=AIM,
                remark=f"a message takes {took[peer]:.0f} µs of processor time there, {took['emqx-im']:.0f} here",
            )
    report.chart("Messages accepted and archived", ["emqx-im: accepted", *ARCHIVED.values()])


def _spent(report: Report, spent: dict[str, list[dict[str, float]]]) -> None:
    """Does not depend on what else the machine does, nor on its disk."""
    titles = []
    for name, rounds in spent.items():
        titles.append(f"processor time, {name}")
        parts = {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}
        remark = ", ".join(f"{part} {written(value)}" for part, value in parts.items())
        report.figure(titles[-1], "µs a message", [total(each) for each in rounds], remark=remark)
    report.chart("Processor time of a message, MariaDB's included", titles)
