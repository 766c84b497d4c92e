"""Measures what it costs that a 204 outlives a crash: appends/s by Redis's `appendfsync`, and with a replica that is
waited for.

Webhook ingest over loopback HTTP; nobody empties the outbox meanwhile, so that only Redis makes the difference.
"""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from redis import Redis

from tests.bench.report import Report
from tests.bench.service import archive_away, begin, see, service, wrk, wrk_script
from tests.servers import RedisServer, program

MODES = ("always", "everysec", "no", "always, 1 replica")
CONNECTIONS = (1, 64, 256)
SYNCS = 200


def run(report: Report) -> None:
    """The modes are taken in turn, so that a drift hits all of them."""
    seconds = report.choose(quick=1, usual=2, full=5)
    rounds = report.choose(quick=1, usual=3, full=5)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        report.figure("fsync of 4 KiB", "ms", _sync_milliseconds(directory))
        script = wrk_script(directory)
        ports = [_serve(stack, directory, mode) for mode in MODES]
        for port in ports:
            wrk(script, port, 64, 1)
        for connections in CONNECTIONS:
            measured = [[wrk(script, port, connections, seconds) for port in ports] for _ in range(rounds)]
            for place, mode in enumerate(MODES):
                title = f"{mode}, {connections} connections"
                report.figure(title, "requests/s", [each[place][0] for each in measured])
                if place:
                    ratios = [each[place][0] / each[0][0] for each in measured]
                    report.figure(f"{title}, to always", "ratio", ratios)
                report.figure(f"{title}, p99", "ms", [each[place][1] for each in measured])
        titles = [f"{mode}, {connections} connections" for connections in CONNECTIONS for mode in MODES]
        report.chart("Webhook ingest by how Redis writes its log", titles)


def _serve(stack: contextlib.ExitStack, directory: Path, mode: str) -> int:
    """Returns the port of a service on a Redis of this mode."""
    appendfsync, replica, _ = mode.partition(", 1 replica")
    redis = RedisServer(directory / mode.replace(", ", "-"), program("redis-server"), appendfsync=appendfsync)
    redis.arguments += ["--repl-diskless-sync-delay", "0"]
    redis.start()
    stack.callback(redis.stop)
    begin(redis)
    see(redis)
    settings = {"IM_ARCHIVE_URL": archive_away()}
    if replica:
        second = RedisServer(directory / "replica", program("redis-server"))
        second.arguments += ["--replicaof", f"127.0.0.1 {redis.port}"]
        second.start()
        stack.callback(second.stop)
        while Redis.from_url(second.url).info("replication")["master_link_status"] != "up":
            time.sleep(0.05)
        settings["IM_REDIS_WAIT"] = "1"
    return stack.enter_context(service(directory, redis, **settings))


def _sync_milliseconds(directory: Path) -> float:
    with (directory / "probe").open("wb", buffering=0) as file:
        started = time.perf_counter()
        for _ in range(SYNCS):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
    return (time.perf_counter() - started) / SYNCS * 1000
