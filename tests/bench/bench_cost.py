"""Measures what a message, a user and a membership take, in Redis (memory without buffers) and in MariaDB (data and
indexes).

The store's own code writes everything. From these figures follows what a million users need who send 50 messages a
day each, to one other user each time; a thousandth of it, 1,000 users with a week of messages, is filled in and
compared.
"""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

from hooks.messaging.group_notices import GroupControlMessages
from store.addresses import GLOBAL, Address, Inbox
from store.archive.aggregate import Aggregator
from store.archive.archive import open_archive
from store.archive.outbox import Outbox
from store.archive.tables.months import DAY, month_of
from store.archive.tables.states import StateRow
from store.groups.context import CommandContext
from store.groups.groups import Groups, Limits
from store.presence.presence import Device, Presence
from store.record import Message, encode
from store.redis import keys
from store.redis.connection import connect
from store.redis.pipelined import PipelinedConnection
from store.redis.scripts import admit
from store.states.state import mark
from store.states.states import States
from store.timelines.append import Appender
from store.timelines.pull import Puller
from tests.bench.bench_bodies import write
from tests.bench.bench_roaming import WORDS, sizes
from tests.bench.ejabberd import sql
from tests.bench.fill import fill, message
from tests.bench.report import Report
from tests.bench.service import begin
from tests.servers import MariaServer, RedisServer, program

FIRST = 1_000_000
USERS, A_DAY, DAYS = 1_000_000, 50, 7
REPEAT_HOURS = 2
GROUPS_OF_A_USER = 10
BOUNDS: dict[str, Any] = {"window_us": DAYS * DAY, "repeat_seconds": REPEAT_HOURS * 3600, "outbox_limit": 2**40}
AT_ONCE = 500
GIB = 1024**3


class Redis:
    """One server; `used` is what it holds now, in bytes, without buffers of clients and log."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        self.server = RedisServer(directory, program("redis-server"))
        self.server.start()
        stack.callback(self.server.stop)
        self.client = redis.Redis.from_url(self.server.url)

    def empty(self) -> None:
        self.client.flushall()
        begin(self.server)

    def used(self) -> int:
        memory = self.client.info("memory")
        return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])

    def see(self, people: int) -> None:
        """Notes the first of them as users who were seen: others have no inbox."""
        now = time.time_ns() // 1_000_000
        for some in _parts(range(FIRST, FIRST + people)):
            self.client.zadd(keys.SEEN, dict.fromkeys(map(str, some), now))

    def forget(self, *patterns: bytes) -> None:
        for pattern in patterns:
            for found in _parts(self.client.scan_iter(pattern + b"*", count=10_000)):
                self.client.delete(*found)


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        store = Redis(stack, directory / "redis")
        costs = {
            **asyncio.run(_messages(report, store)),
            **asyncio.run(_users(report, store)),
            **asyncio.run(_memberships(report, store)),
        }
        asyncio.run(_states(report, store))
        maria = MariaServer(directory / "maria")
        maria.start()
        stack.callback(maria.stop)
        rows, blocks = asyncio.run(_archived(report, store, maria))
        asyncio.run(_archived_states(report, maria))
        _check(report, store, costs)
        _needs(report, costs, rows, blocks)


async def _messages(report: Report, store: Redis) -> dict[str, float]:
    """Returns bytes of a message by what it leaves: in its timelines, as a mark of a repeat, in the outbox."""
    count = report.choose(quick=2_000, usual=160_000, full=320_000)
    people = max(count // (A_DAY * DAYS), 2)
    store.empty()
    store.see(people)
    before = store.used()
    said = _pairs(people, count)
    await write(store.server, said, time.time_ns() // 1000 - DAYS * DAY + DAY // 24, DAYS * DAY - DAY // 24)
    store.client.delete(keys.OUTBOX, keys.OUTBOX_BYTES)
    store.forget(keys.PREFIX + b"r:")
    week = store.used() - before
    client = connect(store.server.url, timeout=30)
    await admit(client)
    appender = Appender(client, **BOUNDS)
    appender.start()
    chance = random.Random(1)

    def private() -> Iterator[Awaitable[object]]:
        for number, (to, sender) in enumerate(_pairs(people, count)):
            said = message(number, to.topic, sender, _text(chance))
            yield appender.append(to, said.sender, said.client_id, said.ts, True, said.payload)

    def common() -> Iterator[Awaitable[object]]:
        for number in range(count):
            said = message(number, GLOBAL.topic, 1, _text(chance))
            yield appender.append(GLOBAL, said.sender, said.client_id, said.ts, True, said.payload)

    await _all(private())
    written = store.used()
    store.client.delete(keys.OUTBOX)
    archived = store.used()
    store.forget(keys.PREFIX + b"r:")
    old = store.used()
    store.client.delete(keys.OUTBOX_BYTES)
    await _all(common())
    store.client.delete(keys.OUTBOX)
    store.forget(keys.PREFIX + b"r:")
    once = store.used() - old
    await appender.stop()
    await client.aclose()
    record = len(encode(message(time.time_ns() // 1000, f"single/{FIRST}", FIRST))) - 54 + _mean_text()
    found = {
        "a private message, in two inboxes": week / count,
        "a message for all, in one channel": once / count,
        f"its mark as a repeat, for {REPEAT_HOURS} hours": (archived - old) / count,
        "its entry in the outbox, until archived": (written - archived) / count,
    }
    report.chart("A message in Redis", [f"Redis: {name}" for name in found])
    for name, value in found.items():
        report.figure(f"Redis: {name}", "bytes", value, remark=f"a record of {record} bytes in the middle")
    return found


async def _users(report: Report, store: Redis) -> dict[str, float]:
    count = report.choose(quick=500, usual=20_000, full=200_000)
    store.empty()
    client = connect(store.server.url, timeout=30)
    await admit(client)
    archive = open_archive("sqlite:///:memory:")
    pulling = PipelinedConnection(client)
    puller = Puller(pulling, archive, Outbox(client), window_us=DAYS * DAY, roaming_us=DAYS * DAY)
    empty = store.used()
    await _all(puller.pull(FIRST + number, 0, 1) for number in range(count))
    idle = store.used()
    now = time.time_ns() // 1_000_000
    presence = Presence(client)
    devices = [Device(FIRST + number, f"{FIRST + number}-phone", now) for number in range(count)]
    await presence.connected(*devices)
    online = store.used()
    fill(store.client, (message(now * 1000 + number, f"single/{FIRST + number}", 1) for number in range(count)))
    inbox = store.used()
    await archive.close()
    await pulling.aclose()
    await client.aclose()
    found = {
        "an idle user, seen once, with nothing new": (idle - empty) / count,
        "an online user, one device, on top": (online - idle) / count,
        "an inbox with its first message": (inbox - online) / count,
    }
    for name, value in found.items():
        report.figure(f"Redis: {name}", "bytes", value)
    return found


async def _memberships(report: Report, store: Redis) -> dict[str, float]:
    """Returns bytes of a membership, on the user's and the group's side; what was said about it is forgotten."""
    groups = report.choose(quick=20, usual=200, full=2000)
    size = 100
    people = groups * size // GROUPS_OF_A_USER
    found = {}
    for mode in ("read", "write"):
        store.empty()
        client, write_connection = (
            connect(store.server.url, timeout=30),
            connect(store.server.url, timeout=30, single=True),
        )
        await admit(client)
        work = Groups(client, write_connection, **BOUNDS, limits=Limits(500, 100_000, 500, 1000, 10**6, False))
        notices = GroupControlMessages("secret")
        store.see(people)
        before = store.used()
        for number in range(groups):
            members = [FIRST + (number * size + each) % people for each in range(size)]
            await work.create(
                CommandContext(number + 1, members[0], "made", notices),
                members=members,
                name="A group",
                mode=mode,
            )
        store.client.delete(keys.OUTBOX, keys.OUTBOX_BYTES, keys.PERMISSIONS)
        store.forget(keys.INBOX_PREFIX, keys.BODIES_PREFIX, keys.PREFIX + b"r:")
        found[f"a membership in a {mode}-mode group"] = (store.used() - before) / (groups * size)
        await client.aclose()
        await write_connection.aclose()
    for name, value in found.items():
        remark = f"of a user in {GROUPS_OF_A_USER} groups of {size}, the group's list of members included"
        report.figure(f"Redis: {name}", "bytes", value, remark=remark)
    return found


async def _states(report: Report, store: Redis) -> None:
    """Measures users who have so many read marks, or settings, or blocks each."""
    people = report.choose(quick=20, usual=400, full=2000)
    each = 50
    archive = open_archive("sqlite:///:memory:")

    async def changed(work: States, kind: str, uid: int, number: int) -> None:
        common: Any = {"command_id": f"{kind}{number}"}
        if kind == "a read mark":
            await work.read(uid, Inbox(2 * FIRST + number), FIRST, **common)
        elif kind == "a setting":
            await work.set(uid, f"mute:single/{2 * FIRST + number}", {"until": FIRST}, **common)
        else:
            await work.block(uid, 2 * FIRST + number, on=True, **common)

    for kind in ("a read mark", "a setting", "a block"):
        store.empty()
        client = connect(store.server.url, timeout=30, single=True)
        await admit(client)
        work = States(client, archive, **BOUNDS, receipts=False)
        before = store.used()
        for number in range(each):
            await _all(changed(work, kind, FIRST + person, number) for person in range(people))
        store.client.delete(keys.OUTBOX, keys.OUTBOX_BYTES)
        store.forget(keys.PREFIX + b"r:")
        value = (store.used() - before) / (people * each)
        report.figure(f"Redis: {kind}", "bytes", value, remark=f"of a user with {each} of them")
        await client.aclose()
    await archive.close()


async def _archived(report: Report, store: Redis, maria: MariaServer) -> tuple[float, float]:
    """Returns bytes of a message as a row, and in blocks, if everybody sends 50 a day to ten others for a month."""
    people = report.choose(quick=4, usual=40, full=200)
    count = people * A_DAY * 30
    sql(maria, "CREATE DATABASE im")
    archive = open_archive(maria.url("im"))
    store.empty()
    client = connect(store.server.url, timeout=30)
    month = month_of(time.time_ns() // 1000 - 62 * DAY)
    await archive.migrate()
    await archive.keep_partitions(month.start)
    await archive.keep_partitions(time.time_ns() // 1000)
    chance = random.Random(2)
    step = (month.edge - month.start) // (count + 1)
    for page in _parts(range(1, count + 1), 2000):
        await archive.store_messages([_talk(month.start + number * step, people, chance) for number in page])
    await archive.store_messages([_talk(time.time_ns() // 1000, people, chance)])
    rows, nothing = await sizes(maria.url("im"), maria)
    aggregator = Aggregator(archive, Outbox(client), window_us=DAYS * DAY)
    for due in await aggregator.due(time.time_ns() // 1000):
        await aggregator.aggregate(due)
    _, blocks = await sizes(maria.url("im"), maria)
    await archive.close()
    await client.aclose()
    row, block = rows / count, (blocks - nothing) / count
    report.figure("MariaDB: a message as a row", "bytes", row, remark=f"{count:,} messages")
    report.figure("MariaDB: a message in blocks, the sender's copy included", "bytes", block)
    return row, block


async def _archived_states(report: Report, maria: MariaServer) -> None:
    count = report.choose(quick=2_000, usual=100_000, full=100_000)
    archive = open_archive(maria.url("im"))
    for numbers in _parts(range(count), 2000):
        at = time.time_ns() // 1000
        rows = [
            StateRow(FIRST + number * 7919 % 4000, mark(f"single/{FIRST + number // 4000}", at).name, at, b"%d" % at)
            for number in numbers
        ]
        await archive.states.store_states(rows)
    await archive.close()
    size = "SELECT data_length + index_length FROM information_schema.tables WHERE table_name = 'user_state'"
    bytes_in_all = int(sql(maria, f"USE im; ANALYZE TABLE user_state; {size};").split()[-1])
    report.figure("MariaDB: a state as a row", "bytes", bytes_in_all / count, remark=f"{count:,} read marks")


def _check(report: Report, store: Redis, costs: Mapping[str, float]) -> None:
    """A thousandth of what `_needs` says of the window, filled in."""
    people = report.choose(quick=50, usual=1000, full=10_000)
    count = people * A_DAY * DAYS
    since = time.time_ns() // 1000 - DAYS * DAY + 3_600_000_000
    step = (DAYS * DAY - 7_200_000_000) // count
    chance = random.Random(3)
    store.empty()
    before = store.used()
    fill(store.client, (_talk(since + number * step, people, chance) for number in range(count)), sync_sender=True)
    computed = count * costs["a private message, in two inboxes"]
    report.figure(
        f"Redis: a week of {people:,} users filled in, to what the figures above say",
        "ratio",
        (store.used() - before) / computed,
        at_least=0.9,
        at_most=1.1,
        remark=f"{count:,} messages",
    )
    memory = store.client.info("memory")
    report.figure(
        "Redis: resident memory to used memory then", "ratio", memory["used_memory_rss"] / memory["used_memory"]
    )


def _needs(report: Report, costs: Mapping[str, float], row: float, block: float) -> None:
    """A million users, 50 messages a day each: computed."""
    a_day = USERS * A_DAY
    window = a_day * DAYS * costs["a private message, in two inboxes"] / GIB
    repeats = a_day * REPEAT_HOURS / 24 * costs[f"its mark as a repeat, for {REPEAT_HOURS} hours"] / GIB
    users = USERS * (
        costs["an idle user, seen once, with nothing new"]
        + costs["an online user, one device, on top"]
        + GROUPS_OF_A_USER * costs["a membership in a read-mode group"]
    )
    hour = a_day / 24 * costs["its entry in the outbox, until archived"] / GIB
    title = f"{USERS:,} users, {A_DAY} messages a day each"
    report.figure(f"{title}: messages", "messages/s", a_day / 86_400, remark="mean of the day")
    report.figure(f"{title}: Redis, the window of {DAYS} days", "GiB", window)
    report.figure(f"{title}: Redis, marks of repeats", "GiB", repeats)
    remark = f"all online, each in {GROUPS_OF_A_USER} read-mode groups"
    report.figure(f"{title}: Redis, users", "GiB", users / GIB, remark=remark)
    report.figure(f"{title}: Redis, in all", "GiB", window + repeats + users / GIB, headline=True)
    report.figure(f"{title}: Redis, for each hour that MariaDB is away", "GiB", hour)
    report.figure(f"{title}: MariaDB, a month of rows", "GiB", a_day * 30 * row / GIB, headline=True)
    report.figure(f"{title}: MariaDB, a year of blocks", "GiB", a_day * 365 * block / GIB, headline=True)


def _pairs(people: int, count: int) -> Iterator[tuple[Address, int]]:
    """Yields receivers and senders of private messages."""
    for number in range(count):
        yield Inbox(FIRST + (number * 7 + 1) % people), FIRST + number % people


def _talk(mid: int, people: int, chance: random.Random) -> Message:
    """Returns a private message to one of the ten next."""
    sender = chance.randrange(people)
    receiver = (sender + chance.randrange(1, min(11, people))) % people
    return message(mid, f"single/{FIRST + receiver}", FIRST + sender, _text(chance))


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS.split(), k=chance.randrange(4, 30)))


def _mean_text() -> int:
    chance = random.Random(4)
    return sum(len(_text(chance)) for _ in range(1000)) // 1000


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    """Some at a time."""
    for some in _parts(calls):
        await asyncio.gather(*some)


def _parts(items: Iterable[Any], size: int = AT_ONCE) -> Iterator[list[Any]]:
    part = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
