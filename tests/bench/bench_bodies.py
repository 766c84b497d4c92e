"""Measures what one body for all receivers saves: memory for a week of messages, a message to a large group, a rebuild.

A week is written by the script that stores messages, with its clock set back, into inboxes of users who were all seen:
50 messages a day each, to one other, or 20 of them to groups of 20 in write mode. What a million users need is computed
from it. The log is Redis's AOF.
"""

import asyncio
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import redis

from store.addresses import Address, Group, Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.archive.tables.months import DAY
from store.operations.dead_letters import DeadLetters
from store.record import Message
from store.redis import keys
from store.redis.connection import connect
from store.redis.scripts import admit
from store.timelines.append import Appender, Stored
from store.timelines.recovery import StoreRecovery
from tests.bench.bench_roaming import WORDS
from tests.bench.fill import message
from tests.bench.report import Report
from tests.bench.service import begin
from tests.servers import MariaServer, RedisServer, program

FIRST = 1_000_000
USERS, A_DAY, DAYS = 1_000_000, 50, 7
TO_GROUPS, MEMBERS, LARGE = 20, 20, 500
REPEAT_SECONDS = 7200
GIB = 1024**3
BOUNDS: dict[str, Any] = {"window_us": DAYS * DAY, "repeat_seconds": 1, "outbox_limit": 2**40}
"""Marks of repeats go at once: those of a week would swell Redis's tables of keys."""


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = RedisServer(directory / "redis", program("redis-server"))
        server.start()
        maria = MariaServer(directory / "maria")
        maria.start()
        try:
            asyncio.run(a_week(report, server, "private messages", 0))
            asyncio.run(a_week(report, server, f"{TO_GROUPS} of them to groups of {MEMBERS}", TO_GROUPS))
            asyncio.run(large_group(report, server))
            client = ["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{maria.port}", "-uroot"]
            subprocess.run([*client, "-eCREATE DATABASE im"], check=True)
            asyncio.run(a_rebuild(report, server, maria))
        finally:
            maria.stop()
            server.stop()


async def a_week(report: Report, server: RedisServer, title: str, in_groups: int) -> None:
    # With so many the tables of the hashes of bodies are as full as with a million.
    people = report.choose(quick=60, usual=960, full=1920)
    client = _emptied(server, people)
    for number in range(people // MEMBERS):
        _make_group(client, number, range(FIRST + number * MEMBERS, FIRST + (number + 1) * MEMBERS))
    before = _used(client)
    count = people * A_DAY * DAYS
    await write(server, _talk(people, in_groups, count), time.time_ns() // 1000 - DAYS * DAY + DAY // 24, DAYS * DAY)
    client.delete(keys.OUTBOX, keys.OUTBOX_BYTES)
    _forget_repeats(client)
    # Redis makes its tables of keys smaller in the background.
    await asyncio.sleep(5)
    window = (_used(client) - before) / people * USERS / GIB
    repeats = USERS * A_DAY * REPEAT_SECONDS / 86_400 * 165 / GIB
    remark = f"{count:,} messages of {people} users, and {repeats:.1f} GiB of marks of repeats"
    report.figure(f"a week of {USERS:,} users, {A_DAY} a day, {title}", "GiB", window + repeats, remark=remark)


async def large_group(report: Report, server: RedisServer) -> None:
    """A message to a write-mode group: in Redis, in its log, and of its processor time."""
    count = report.choose(quick=20, usual=100, full=100)
    client = _emptied(server, LARGE)
    _make_group(client, 7, range(FIRST, FIRST + LARGE))
    now = time.time_ns() // 1000
    await write(server, ((Group(7), FIRST) for _ in range(5)), now - 60_000_000, 1_000_000)
    client.delete(keys.OUTBOX)
    used, logged, spent = _used(client), _logged(client), _processor(client)
    await write(server, ((Group(7), FIRST) for _ in range(count)), now - 30_000_000, 1_000_000)
    logged, spent = _logged(client) - logged, _processor(client) - spent
    client.delete(keys.OUTBOX, keys.OUTBOX_BYTES)
    _forget_repeats(client)
    title = f"a message to a group of {LARGE}"
    report.figure(f"{title}, in Redis", "KB", (_used(client) - used) / count / 1000)
    report.figure(f"{title}, in its log", "KB", logged / count / 1000)
    report.figure(f"{title}, Redis's processor time for each member", "µs", spent / count / LARGE * 1e6)


async def a_rebuild(report: Report, server: RedisServer, maria: MariaServer) -> None:
    """From MariaDB, into an empty Redis."""
    count = report.choose(quick=2_000, usual=50_000, full=1_000_000)
    people = max(count // 350, 2)
    archive = open_archive(maria.url("im"))
    await archive.migrate()
    since = time.time_ns() // 1000 - DAYS * DAY + DAY // 24
    step = (DAYS * DAY - DAY // 12) // count
    for start in range(0, count, 2000):
        some = range(start, min(start + 2000, count))
        talk = _talk(people, 0, len(some))
        await archive.store_messages(
            [message(since + n * step, to.topic, sender) for n, (to, sender) in zip(some, talk, strict=True)]
        )
    values = []
    for _ in range(report.choose(quick=1, usual=3, full=3)):
        _emptied(server, 0).flushall()
        store = connect(server.url, timeout=60)
        archiver = Archiver(Outbox(store), handlers(archive), DeadLetters(store))
        recovery = StoreRecovery(store, archive, archiver, window_us=DAYS * DAY, sync_sender=True)
        started = time.perf_counter()
        await recovery.rebuild()
        values.append(count / (time.perf_counter() - started))
        await store.aclose()
    await archive.close()
    report.figure("a rebuild from MariaDB", "messages/s", values, remark=f"{count:,} messages")


async def write(server: RedisServer, said: Iterator[tuple[Address, int]], since: int, span: int) -> None:
    """Stores messages as if they came at even pace from a time on; 100 of them together."""
    messages, chance = list(said), random.Random(2)
    client = connect(server.url, timeout=30)
    await admit(client)
    appender = Appender(client, connections=1, **BOUNDS)
    appender.start()
    for start in range(0, len(messages), 100):
        some = messages[start : start + 100]
        # The script takes five seconds more than its caller's clock says.
        now = since + start * span // len(messages) - 5_000_000
        with patch("store.timelines.append.time.time_ns", lambda now=now: now * 1000):
            await asyncio.gather(
                *(
                    _append(appender, to, message(since + start + n, to.topic, sender, _text(chance)))
                    for n, (to, sender) in enumerate(some)
                )
            )
    await appender.stop()
    await client.aclose()


def _talk(people: int, in_groups: int, count: int) -> Iterator[tuple[Address, int]]:
    chance = random.Random(1)
    for _ in range(count):
        sender = chance.randrange(people)
        if chance.random() < in_groups / A_DAY:
            yield Group(sender // MEMBERS), FIRST + sender
        else:
            yield Inbox(FIRST + (sender + chance.randrange(1, 11)) % people), FIRST + sender


def _append(appender: Appender, to: Address, said: Message) -> asyncio.Future[Stored]:
    return appender.append(to, said.sender, said.client_id, said.ts, True, said.payload)


def _text(chance: random.Random) -> str:
    """As long as in `bench_cost.py`."""
    return " ".join(chance.choices(WORDS.split(), k=chance.randrange(4, 30)))


def _emptied(server: RedisServer, people: int) -> Any:
    client = redis.Redis.from_url(server.url, socket_timeout=120)
    client.flushall()
    client.config_set("auto-aof-rewrite-percentage", 0)
    begin(server)
    if people:
        now = time.time_ns() // 1_000_000
        client.zadd(keys.SEEN, {str(FIRST + each): now for each in range(people)})
    return client


def _make_group(client: Any, gid: int, members: range) -> None:
    client.hset(keys.group(gid), mapping={"owner": members[0], "mode": "write", "made": 1})
    client.zadd(keys.members(gid), {str(uid): 1 for uid in members})


def _forget_repeats(client: Any) -> None:
    found = list(client.scan_iter(keys.PREFIX + b"r:*", count=10_000))
    for start in range(0, len(found), 1000):
        client.delete(*found[start : start + 1000])


def _used(client: Any) -> int:
    memory = client.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])


def _logged(client: Any) -> int:
    return int(client.info("persistence")["aof_current_size"])


def _processor(client: Any) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])
