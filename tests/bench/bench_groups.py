"""Measures groups: fan-out to members, pulls of many groups, hot channels, and how a pull finds the groups with news.

Fan-out is compared with what redis-py does by itself: the same records into the same number of inboxes, a pipeline
of `ZADD`s, without anything else that a message needs (repeats, ids, members, trimming, outbox). Pulls are over
loopback HTTP; `p50` is that of one client that asks again after each answer, rates are wrk's.
"""

import asyncio
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis

from store.addresses import Group
from store.record import encode
from store.redis import keys
from store.redis.connection import connect
from store.redis.scripts import admit
from store.timelines.append import Appender
from tests.bench.fill import fill, join, message
from tests.bench.pulls import Client, request, wrk_script
from tests.bench.report import Report
from tests.bench.service import serving, wrk
from tests.servers import RedisServer, program

OWNER = 1
MEMBERS = 500
GROUPS = 500
WITH_NEWS = 5
CROWD = 10_000
"""Members of the hot group."""
OTHERS = 20_000
"""Groups of other users: a small hash, which Redis packs, is slow to ask for many of its fields."""
CONNECTIONS = 32
NEVER = "1e9"
DAY = 86_400_000_000


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        server = RedisServer(directory / "redis", program("redis-server"))
        server.start()
        stack.callback(server.stop)
        redis = Redis.from_url(server.url)
        redis.set(keys.EPOCH, "bench")
        asyncio.run(fan_out(report, server.url, redis))
        redis.flushall()
        finding(report, redis)
        redis.flushall()
        (directory / "held").mkdir()
        plain = stack.enter_context(serving(directory, server, IM_HOT_HITS=NEVER)).port
        held = stack.enter_context(serving(directory / "held", server, IM_HOT_HITS="5")).port
        many_groups(report, redis, plain)
        hot_group(report, directory, redis, {"without": plain, "hot": held})


def others(redis: Redis) -> None:
    redis.hset(keys.HEADS, mapping={Group(10**9 + each).channel: 10**15 + each for each in range(OTHERS)})


def make_group(redis: Redis, gid: int, mode: str, members: range) -> None:
    """As `group.lua` leaves it, without claims anybody."""
    now = time.time_ns() // 1000 - 8 * DAY
    redis.hset(keys.group(gid), mapping={"owner": OWNER, "mode": mode, "open": 0, "name": "", "made": now})
    redis.zadd(keys.members(gid), {str(uid): now for uid in members})
    redis.zadd(keys.SEEN, {str(uid): now / 1000 for uid in members})
    with redis.pipeline(transaction=False) as pipeline:
        for uid in members:
            pipeline.hset(keys.channel_map(uid), Group(gid).channel, f"{now}:")
        pipeline.execute()


# Fan-out


async def fan_out(report: Report, url: str, redis: Redis) -> None:
    """Rounds of both in turn, each into inboxes of its own."""
    rounds = report.choose(quick=1, usual=9, full=25)
    count = report.choose(quick=8, usual=40, full=100)
    members = range(OWNER, OWNER + MEMBERS)
    make_group(redis, 7, "write", members)
    client = connect(url)
    await admit(client)
    appender = Appender(client, window_us=7 * DAY, repeat_seconds=7200, outbox_limit=2**40)
    appender.start()
    written: dict[str, list[float]] = {"fan-out": [], "pipelined ZADDs of redis-py": []}
    for number in range(rounds + 1):
        records = [message(time.time_ns() // 1000 + each, "group/7", OWNER) for each in range(count)]
        started = time.perf_counter()
        answers = [appender.append(Group(7), "1", each.client_id, 0, True, each.payload) for each in records]
        await asyncio.gather(*answers)
        took = time.perf_counter() - started
        started = time.perf_counter()
        for each in records:
            record = encode(each)
            with redis.pipeline(transaction=False) as pipeline:
                for uid in members:
                    pipeline.zadd(b"raw:%d" % uid, {record: each.mid})
                pipeline.execute()
        raw = time.perf_counter() - started
        if number:
            written["fan-out"].append(count * MEMBERS / took)
            written["pipelined ZADDs of redis-py"].append(count * MEMBERS / raw)
    await appender.stop()
    await client.aclose()
    if sum(map(redis.zcard, redis.scan_iter(keys.INBOX_PREFIX + b"%d:*" % OWNER))) != (rounds + 1) * count:
        raise RuntimeError("not everything was delivered")
    for name, values in written.items():
        report.figure(f"{name}, {MEMBERS} members", "deliveries/s", values, headline=True)
    ratios = [ours / raw for ours, raw in zip(*written.values(), strict=True)]
    report.figure("fan-out to ZADDs", "ratio", ratios, at_least=5)


# Pulls


def many_groups(report: Report, redis: Redis, port: int) -> None:
    """One user in many groups, another only in those that have news."""
    pulls = report.choose(quick=20, usual=200, full=2000)
    others(redis)
    client = Client(port)
    for messages in (WITH_NEWS, 200):
        begin = time.time_ns() // 1000 - DAY
        users = {}
        for uid, groups in ((3001 + messages, GROUPS), (4001 + messages, WITH_NEWS)):
            join(redis, uid, [Group(uid * 1000 + each).channel for each in range(groups)])
            fill(redis, (message(begin - 2 * DAY + each, f"group/{uid * 1000 + each}", 1) for each in range(groups)))
            news = (message(begin + each, f"group/{uid * 1000 + each % WITH_NEWS}", 1) for each in range(messages))
            fill(redis, news)
            users[uid] = groups
        times: dict[int, list[float]] = {GROUPS: [], WITH_NEWS: []}
        spent = {GROUPS: 0.0, WITH_NEWS: 0.0}
        for _ in range(pulls):
            for uid, groups in users.items():
                before = _script_seconds(redis)
                answer, took = client.pull(uid, begin - 1, 1000)
                spent[groups] += _script_seconds(redis) - before
                if len(answer["messages"]) != messages:
                    raise RuntimeError(f"{len(answer['messages'])} of {messages} messages pulled")
                times[groups].append(took)
        for groups, taken in times.items():
            title = f"pull of {messages} messages, {groups} groups, {WITH_NEWS} of them with news"
            report.figure(f"{title}, p50", "ms", statistics.median(taken))
            report.figure(f"{title}, in Redis", "ms", spent[groups] / pulls * 1000)
        parts = zip(_medians(times[GROUPS]), _medians(times[WITH_NEWS]), strict=True)
        ratios = [many / few for many, few in parts]
        report.figure(f"pull of {messages} messages, {GROUPS} groups to {WITH_NEWS}", "ratio", ratios, at_most=2)
    client.close()


def _medians(times: list[float]) -> list[float]:
    """Five runs out of one."""
    size = len(times) // 5
    return [statistics.median(times[first : first + size]) for first in range(0, 5 * size, size)]


def _script_seconds(redis: Redis) -> float:
    stats: Any = redis.info("commandstats")
    return float(stats.get("cmdstat_evalsha", {"usec": 0})["usec"]) / 1e6


class Cost(NamedTuple):
    """Measures one pull: commands of Redis, including those inside scripts, and its processor time in milliseconds."""

    commands: float
    milliseconds: float


def hot_group(report: Report, directory: Path, redis: Redis, ports: dict[str, int]) -> None:
    """Members of one read-mode group come back and pull what they missed; another process has the group hot."""
    seconds = report.choose(quick=1, usual=3, full=10)
    rounds = report.choose(quick=1, usual=5, full=9)
    gid, members = 9, range(100_000, 100_000 + CROWD)
    make_group(redis, gid, "read", members)
    for missed in (1, 20, 200):
        begin = time.time_ns() // 1000
        fill(redis, (message(begin + each, f"group/{gid}", 1) for each in range(missed)))
        requests = [request(uid, begin - 1) for uid in itertools.islice(members, 0, None, 10)]
        script = wrk_script(directory, requests)
        for port in ports.values():
            wrk(script, port, CONNECTIONS, 3)
            with contextlib.closing(Client(port)) as client:
                answer, _ = client.pull(members[0], begin - 1)
            if len(answer["messages"]) != missed:
                raise RuntimeError(f"{len(answer['messages'])} of {missed} messages pulled")
        found: dict[str, list[float]] = {name: [] for name in ports}
        costs: dict[str, list[Cost]] = {name: [] for name in ports}
        for number in range(rounds):
            for name, port in sorted(ports.items(), reverse=number % 2 == 0):
                before, commands = _processor_seconds(redis), _commands(redis)
                rate = wrk(script, port, CONNECTIONS, seconds)[0]
                pulls = rate * seconds
                found[name].append(rate)
                costs[name].append(
                    Cost(
                        (_commands(redis) - commands) / pulls,
                        (_processor_seconds(redis) - before) / pulls * 1000,
                    )
                )
        title = f"{CROWD:,} members, {missed} messages each"
        for name in ports:
            report.figure(f"{title}, {name}", "pulls/s", found[name])
            report.figure(f"{title}, {name}, commands of Redis", "a pull", [cost.commands for cost in costs[name]])
            report.figure(f"{title}, {name}, Redis", "ms a pull", [cost.milliseconds for cost in costs[name]])
        ratios = [hot / without for without, hot in zip(found["without"], found["hot"], strict=True)]
        report.figure(f"{title}, hot to without", "ratio", ratios, at_least=2 if missed == 200 else None)


def _processor_seconds(redis: Redis) -> float:
    used: Any = redis.info("cpu")
    return float(used["used_cpu_sys"]) + float(used["used_cpu_user"])


def _commands(redis: Redis) -> int:
    stats: Any = redis.info("commandstats")
    return sum(int(each["calls"]) for each in stats.values())


# How a pull finds the groups with news


HEADS_WRITE = "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[3]) redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])"
"""One append, and the group's head. KEYS channel, heads, members. ARGV id, channel name, record."""
SET_WRITE = f"""{HEADS_WRITE}
for _, uid in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  redis.call('ZADD', 'news:' .. uid, ARGV[1], ARGV[2])
end"""
"""The same, and a line for each member: the newest id of each group, as each device has a cursor of its own."""
HEADS_READ = """
local names, found, after = redis.call('HKEYS', KEYS[1]), {}, ARGV[1]
local heads = redis.call('HMGET', KEYS[2], unpack(names))
for index = 1, #heads do
  local head = heads[index]
  if head and #head >= #after and (head > after or #head > #after) then
    found[#found + 1] = names[index]
  end
end
return found"""
SET_READ = "return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')"


def finding(report: Report, redis: Redis) -> None:
    """Heads compared at the pull, against a set per user of the groups that have news; both as small as they get."""
    rounds = report.choose(quick=1, usual=5, full=9)
    others(redis)
    channels = [Group(each).channel for each in range(GROUPS)]
    join(redis, OWNER, channels)
    redis.hset(keys.HEADS, mapping={name: 10**15 + each for each, name in enumerate(channels)})
    redis.zadd("news:1", {name: 10**15 + each for each, name in enumerate(channels)})
    cursor = 10**15 + GROUPS - 1 - WITH_NEWS
    reads = {
        "heads": (HEADS_READ, [keys.channel_map(OWNER), keys.HEADS]),
        "set": (SET_READ, [b"news:1"]),
    }
    for name, (text, names) in reads.items():
        digest = redis.script_load(text)
        if len(redis.evalsha(digest, len(names), *names, cursor)) != WITH_NEWS:
            raise RuntimeError(f"{name}: not the channels with news")
        values = [_microseconds_in_redis(redis, digest, names, cursor, 300) for _ in range(rounds)]
        report.figure(f"finding {WITH_NEWS} of {GROUPS} groups, {name}", "µs in Redis", values)
    ids = itertools.count(2 * 10**15)
    for size in (MEMBERS, CROWD):
        members = f"members:{size}"
        redis.zadd(members, {str(uid): 1 for uid in range(1_000_000, 1_000_000 + size)})
        for name, text in (("heads", HEADS_WRITE), ("set", SET_WRITE)):
            digest = redis.script_load(text)
            calls = 10 if name == "set" else 200
            values = [_milliseconds_a_write(redis, digest, members, ids, calls) for _ in range(rounds)]
            report.figure(f"writing to {size:,} members, {name}", "ms a message", values)


def _microseconds_in_redis(redis: Redis, digest: str, names: list[bytes], cursor: int, calls: int) -> float:
    redis.config_resetstat()
    for _ in range(calls):
        redis.evalsha(digest, len(names), *names, cursor)
    return _script_seconds(redis) / calls * 1e6


def _milliseconds_a_write(redis: Redis, digest: str, members: str, ids: Iterator[int], calls: int) -> float:
    """With the sync of the log, which the script's own time does not hold."""
    started = time.perf_counter()
    for id_ in itertools.islice(ids, calls):
        record = encode(message(id_, "group/7", OWNER))
        redis.evalsha(digest, 3, keys.channel("x"), keys.HEADS, members, id_, "x", record)
    return (time.perf_counter() - started) / calls * 1000
