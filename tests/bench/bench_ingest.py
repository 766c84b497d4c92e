"""Webhook ingest over loopback HTTP, AOF always, as a ratio to an aiohttp no-op of the same route in the same run.

Messages per second of processor time, of the service and of Redis, depend less on what else the machine does.
`alone`: what a 204 promises, the message in Redis with its outbox entry; nobody empties the outbox meanwhile.
`archived`: the same process also carries everything into SQLite, on the same cores.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.report import Report
from tests.bench.service import archive_away, begin, process, see, serving, wrk, wrk_script
from tests.bench.usage import processor
from tests.servers import RedisServer, free_port, program

AIMS = {16: 0.75, 64: 0.80, 256: 0.85}
"""Connections, and the ratio that is wanted of them."""


def run(report: Report) -> None:
    """The three are taken in turn, so that a drift hits all of them."""
    seconds = report.choose(quick=1, usual=3, full=10)
    rounds = report.choose(quick=1, usual=5, full=9)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        script = wrk_script(directory)
        alone, archived = (RedisServer(directory / name, program("redis-server")) for name in ("alone", "archived"))
        for redis in (alone, archived):
            redis.start()
            see(redis)
        begin(alone)
        away = archive_away()
        noop_port = free_port()
        noop = [sys.executable, "-m", "tests.bench.noop", str(noop_port)]
        with (
            process(noop, noop_port),
            serving(directory, alone, IM_ARCHIVE_URL=away) as alone_service,
            serving(directory, archived) as archived_service,
        ):
            ports = {"no-op": noop_port, "alone": alone_service.port, "archived": archived_service.port}
            pids = {"service": alone_service.pid, "Redis": alone.pid}
            for port in ports.values():
                wrk(script, port, 64, 1)
            for connections, aim in AIMS.items():
                for name, rates in _by_processor(script, ports["alone"], pids, connections, seconds, rounds).items():
                    report.figure(f"{name} alone, {connections} connections", "messages per CPU second", rates)
                measured = [
                    {name: wrk(script, port, connections, seconds) for name, port in ports.items()}
                    for _ in range(rounds)
                ]
                for name in ports:
                    rates = [each[name][0] for each in measured]
                    report.figure(f"{name}, {connections} connections", "requests/s", rates)
                    if name != "no-op":
                        ratios = [each[name][0] / each["no-op"][0] for each in measured]
                        title = f"{name} to no-op, {connections} connections"
                        report.figure(title, "ratio", ratios, at_least=aim if name == "alone" else None)
                        report.figure(
                            f"{name}, p99, {connections} connections", "ms", [each[name][1] for each in measured]
                        )
        titles = [
            f"{name} to no-op, {connections} connections" for name in ("alone", "archived") for connections in AIMS
        ]
        report.chart("Webhook ingest beside an aiohttp no-op", titles)
        for redis in (alone, archived):
            redis.stop()


def _by_processor(
    script: Path, port: int, pids: Mapping[str, int], connections: int, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Returns messages per second of processor time, by process."""
    found: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(rounds):
        before = {name: processor(pid) for name, pid in pids.items()}
        rate, _ = wrk(script, port, connections, seconds)
        for name, pid in pids.items():
            found[name].append(rate * seconds / (processor(pid) - before[name]))
    return found
