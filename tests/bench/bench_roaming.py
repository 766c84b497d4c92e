"""Measures two years of messages as rows, then as monthly aggregates.

The figures are how fast months are aggregated, how many bytes a message takes, and how fast and with how much
memory a chain of pulls from 0 reads the last year, of which every fourth message is the user's. Each step is a
separate process, so that its memory can be measured.
"""

import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncmy

from store.archive.aggregate import Aggregator
from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.archive.tables.months import DAY
from store.operations.dead_letters import DeadLetters
from store.record import Message
from store.redis.connection import connect
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from tests.bench.report import Report
from tests.servers import MariaServer, RedisServer, die_with_parent, valkey_program

MONTHS = 24
USER = 1001
WINDOW_US = 7 * DAY
YEAR_US = 365 * DAY
CROWDS = {"5 people": 5, "2,000 people": 2000}
"""Few long conversations, and many short ones: blocks compress the better the more messages of a month they hold."""

WORDS = "the of and to in is you that it he was for on are as with his they at be this have from or one had by word"


def message(mid: int, people: int, chance: random.Random) -> Message:
    """Returns a private message of one of them to another; every fourth is for or from one user."""
    client_id = f"{chance.getrandbits(128):032x}"
    text = " ".join(chance.choices(WORDS.split(), k=chance.randrange(4, 30)))
    payload = f'{{"id":"{client_id}","type":"text","body":{{"text":"{text}"}}}}'.encode()
    one, other = (USER + chance.randrange(people) for _ in range(2))
    if chance.random() < 0.25:
        one, other = (USER, other) if chance.random() < 0.5 else (one, USER)
    return Message(mid, f"single/{other}", str(one), client_id, mid // 1000, True, payload)


async def fill(archive: Archive, count: int, people: int) -> int:
    """Returns the rows of two years; how many of the last one the user may see."""
    now = time.time_ns() // 1000
    begin = now - MONTHS * 365 * DAY // 12
    await archive.migrate()
    await archive.keep_partitions(begin)
    await archive.keep_partitions(now)
    chance = random.Random(count)
    step = (now - begin) // (count + 1)
    seen, batch = 0, []
    for number in range(1, count + 1):
        batch.append(message(begin + number * step, people, chance))
        mine = batch[-1].topic == f"single/{USER}" or batch[-1].sender == str(USER)
        seen += mine and batch[-1].mid > now - YEAR_US
        if len(batch) == 2000 or number == count:
            await archive.store_messages(batch)
            batch = []
    return seen


async def aggregate(redis_url: str, url: str) -> None:
    redis = connect(redis_url)
    archive = open_archive(url)
    begin, stored, blocks, size = time.perf_counter(), 0, 0, 0
    aggregator = Aggregator(archive, Outbox(redis), window_us=WINDOW_US)
    months = await aggregator.due(time.time_ns() // 1000)
    for month in months:
        made = await aggregator.aggregate(month)
        stored, blocks, size = stored + made.messages, blocks + made.blocks, size + made.bytes
    seconds = time.perf_counter() - begin
    _tell("aggregated, private messages twice", "messages/s", stored / seconds)
    _tell("messages in a block", "messages", stored / blocks)
    _tell("a message in a block", "bytes", size / stored)
    _tell("memory of aggregating", "MiB", _memory())
    await archive.close()
    await redis.aclose()


async def pull(redis_url: str, url: str, limit: int, wanted: int) -> None:
    redis = connect(redis_url)
    archive = open_archive(url)
    puller = Puller(redis, archive, Outbox(redis), window_us=WINDOW_US, roaming_us=YEAR_US)
    cursor, got, longest, more = 0, 0, 0.0, True
    begin, pages = time.perf_counter(), 0
    while more:
        start = time.perf_counter()
        pulled = await puller.pull(USER, cursor, limit)
        longest = max(longest, time.perf_counter() - start)
        assert all(one.mid < other.mid for one, other in zip(pulled.messages, pulled.messages[1:], strict=False))
        assert not pulled.messages or pulled.messages[0].mid > cursor
        cursor, more = pulled.last_id, pulled.more
        got, pages = got + len(pulled.messages), pages + 1
    seconds = time.perf_counter() - begin
    # What the year's edge passed over since the rows were made is gone.
    assert wanted - 100 <= got <= wanted, (got, wanted)
    _tell(f"pulled, pages of {limit}", "messages/s", got / seconds)
    _tell(f"a page of {limit}", "ms", seconds / pages * 1000)
    _tell(f"the longest page of {limit}", "ms", longest * 1000)
    _tell(f"memory of pulling, pages of {limit}", "MiB", _memory())
    await archive.close()
    await redis.aclose()


def _tell(name: str, unit: str, value: float) -> None:
    """To the process that started this step."""
    print(json.dumps((name, unit, value)), flush=True)


def _memory() -> float:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def sizes(url: str, maria: MariaServer | None) -> tuple[int, int]:
    """Returns bytes on disk of rows, and of blocks."""
    archive = urlsplit(url)
    if maria is None:
        file = Path(archive.path[1:])
        return sum(each.stat().st_size for each in file.parent.glob(file.name + "*")), 0
    connection = await asyncmy.connect(host="127.0.0.1", port=maria.port, user="root", database=archive.path[1:])
    found = []
    async with connection.cursor() as cursor:
        for table in ("message", "block"):
            await cursor.execute(f"ANALYZE TABLE {table}")
            await cursor.fetchall()
            await cursor.execute(
                "SELECT data_length + index_length FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = %s",
                (table,),
            )
            ((size,),) = await cursor.fetchall()
            found.append(int(size))
    await connection.ensure_closed()
    return found[0], found[1]


async def prepare(report: Report, title: str, redis_url: str, url: str, count: int, people: int) -> int:
    archive = open_archive(url)
    begin = time.perf_counter()
    wanted = await fill(archive, count, people)
    report.figure(f"{title}: stored as rows", "messages/s", count / (time.perf_counter() - begin))
    redis = connect(redis_url, timeout=60)
    await redis.flushall()
    archiver = Archiver(Outbox(redis), handlers(archive), DeadLetters(redis))
    await StoreRecovery(redis, archive, archiver, window_us=WINDOW_US, sync_sender=True).rebuild()
    await archive.close()
    await redis.aclose()
    return wanted


def measure(report: Report, title: str, redis_url: str, url: str, maria: MariaServer | None, people: int) -> None:
    count = report.choose(quick=2_000, usual=60_000, full=1_000_000)
    wanted = asyncio.run(prepare(report, title, redis_url, url, count, people))
    rows, blocks = asyncio.run(sizes(url, maria))
    report.figure(f"{title}: a row on disk, indexes too", "bytes", rows / count, remark=f"{count:,} messages")
    step(report, f"{title}, rows", "pull", redis_url, url, 1000, wanted)
    step(report, title, "aggregate", redis_url, url)
    added = sum(asyncio.run(sizes(url, maria))) - rows - blocks
    report.figure(f"{title}: aggregates on disk", "bytes a message", added / count)
    for limit in (1000, 200):
        step(report, f"{title}, blocks", "pull", redis_url, url, limit, wanted)


def step(report: Report, title: str, *arguments: object) -> None:
    """Runs a step in a process of its own; what it tells are figures."""
    command = [sys.executable, "-m", "tests.bench.bench_roaming", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    for line in done.stdout.splitlines():
        name, unit, value = json.loads(line)
        report.figure(f"{title}: {name}", unit, value)


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        valkey = RedisServer(directory / "valkey", valkey_program())
        valkey.start()
        maria = MariaServer(directory / "maria")
        maria.start()
        for crowd, people in CROWDS.items():
            database = f"im_{people}"
            client = ["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{maria.port}", "-uroot"]
            subprocess.run([*client, f"-eCREATE DATABASE {database}"], check=True)
            for title, url, server in (
                (f"MariaDB, {crowd}", maria.url(database), maria),
                (f"SQLite, {crowd}", f"sqlite:///{directory}/{people}.db", None),
            ):
                measure(report, title, valkey.url, url, server, people)
        maria.stop()
        valkey.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["aggregate", redis_url, url]:
            asyncio.run(aggregate(redis_url, url))
        case ["pull", redis_url, url, limit, wanted]:
            asyncio.run(pull(redis_url, url, int(limit), int(wanted)))
