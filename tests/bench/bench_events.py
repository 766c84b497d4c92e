"""Ingest with events, as a ratio to ingest without, by processor time of the service and of Redis together.

Nobody is online, so each message has its event. `waiting`: the back end is away, and events stay in Redis. `delivered`:
the same process also posts them to a back end, which takes them at once. For groups only Redis's processor time
counts: what a message costs whose offline members are named, eight of them in a call.
"""

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from store.addresses import Group
from store.events.kinds import EventKind, WantedEvents
from store.redis import keys
from store.redis.connection import connect
from store.redis.scripts import admit
from store.timelines.append import Appender
from tests.bench.report import Report
from tests.bench.service import Serving, archive_away, begin, process, serving, wrk, wrk_script
from tests.bench.usage import processor
from tests.servers import RedisServer, free_port, program

SECRET = "whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNobWFya3M="
CONNECTIONS = 64
AIM = 0.8
NONE, WAITING, DELIVERED, EVERYTHING = (
    "none",
    "message.offline, waiting",
    "message.offline, delivered",
    "all, delivered",
)
GROUPS = {"a write-mode group of 500": ("write", 500), "a read-mode group of 2,000": ("read", 2000)}
FIRST = 10**15
"""Members with sparse uids share no bitmaps."""


def run(report: Report) -> None:
    """All are taken in turn, so that a drift hits all of them."""
    seconds, rounds = report.choose(quick=1, usual=3, full=10), report.choose(quick=1, usual=7, full=15)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _hooks(report, stack, directory, seconds, rounds)
        asyncio.run(_groups(report, stack, directory, rounds))


def _hooks(report: Report, stack: contextlib.ExitStack, directory: Path, seconds: float, rounds: int) -> None:
    script, port = wrk_script(directory), free_port()
    stack.enter_context(process([sys.executable, "-m", "tests.bench.noop", str(port)], port))
    gone, there = f"http://127.0.0.1:{free_port()}/", f"http://127.0.0.1:{port}/hooks/message"
    asked = {WAITING: (gone, "message.offline"), DELIVERED: (there, "message.offline"), EVERYTHING: (there, _all())}
    running: dict[str, tuple[RedisServer, Serving]] = {}
    for place, name in enumerate((NONE, *asked)):
        redis = _redis(stack, directory / str(place))
        settings = {"IM_ARCHIVE_URL": archive_away()}
        if name in asked:
            url, kinds = asked[name]
            settings |= {"IM_EVENTS_URL": url, "IM_EVENTS": kinds, "IM_EVENTS_SECRET": SECRET}
        running[name] = redis, stack.enter_context(serving(directory, redis, **settings))
        wrk(script, running[name][1].port, CONNECTIONS, 1)
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, (redis, service) in running.items():
            before = processor(service.pid, redis.pid)
            rate, _ = wrk(script, service.port, CONNECTIONS, seconds)
            found[name].append(rate * seconds / (processor(service.pid, redis.pid) - before))
    for name, rates in found.items():
        report.figure(f"ingest, {name}", "messages per CPU second", rates)
    for name in asked:
        ratios = [one / other for one, other in zip(found[name], found[NONE], strict=True)]
        report.figure(f"{name}, to none", "ratio", ratios, at_least=AIM if name != EVERYTHING else None)


async def _groups(report: Report, stack: contextlib.ExitStack, directory: Path, rounds: int) -> None:
    server = _redis(stack, directory / "groups")
    redis = connect(server.url, timeout=30)
    await admit(redis)
    for gid, (mode, count) in enumerate(GROUPS.values(), 1):
        uids = [FIRST + 5000 * number for number in range(count)]
        await redis.hset(keys.group(gid), mapping={"mode": mode, "made": 1})
        await redis.zadd(keys.members(gid), {str(uid): uid for uid in uids})
        await redis.zadd(keys.SEEN, {str(uid): 1 for uid in uids})
    bounds: dict[str, Any] = {"window_us": 7 * 86_400_000_000, "repeat_seconds": 60, "outbox_limit": 2**40}
    offline = WantedEvents([EventKind.MESSAGE_OFFLINE], 2**28)
    without, asking = Appender(redis, **bounds), Appender(redis, **bounds, events=offline)
    for appender in (without, asking):
        appender.start()
    batches = report.choose(quick=2, usual=30, full=200)
    for gid, name in enumerate(GROUPS, 1):
        ratios = []
        for turn in range(rounds):
            spent = {}
            for place, appender in enumerate((without, asking)):
                before = processor(server.pid)
                for batch in range(batches):
                    sent = [
                        appender.append(Group(gid), "0", f"{turn} {place} {batch} {number}", 0, True, b"{}")
                        for number in range(8)
                    ]
                    await asyncio.gather(*sent)
                spent[place] = processor(server.pid) - before
            ratios.append(spent[0] / spent[1])
        report.figure(f"message.offline in {name}, to none", "ratio", ratios)
    await without.stop()
    await asking.stop()
    await redis.aclose()


def _all() -> str:
    return ",".join(EventKind)


def _redis(stack: contextlib.ExitStack, directory: Path) -> RedisServer:
    redis = RedisServer(directory, program("redis-server"))
    redis.start()
    stack.callback(redis.stop)
    begin(redis)
    return redis
