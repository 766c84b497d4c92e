"""Measures what the store gains from several shards: one on each master of a cluster of one, three and six masters.

The store's own code calls the scripts, without the HTTP service: 64 pulls at a time for each master, and messages in
bursts of 512. The masters are stopped for most of the time, so they are the limit, not the load, and requests pile up
as they do then. The masters and the load share a few cores here, so no rate is measured but the processor time that
each master's main thread takes (`INFO cpu`), less what it takes when nothing is asked. In operation each master has a
core of its own: what the busiest of them takes for an operation says how many of these the cluster can do in a
second, and the ratios are those of that.
Such figures hold on a busy machine, too; times of answers were taken in turn and hold only in comparison. No archiver
runs meanwhile, but for the last figures.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench.masters import UIDS, Masters, all_of, in_bursts
from tests.bench.report import Report

MASTERS = (1, 3, 6)
AT_ONCE = 64
"""Pulls under way for each master."""
BURST = 512
"""Messages that come together."""
MISSED = 20
SMALL, LARGE = 5, 500
"""Members of groups."""
A_SECOND = 200

Work = Callable[[Masters], Awaitable[object]]
Spent = dict[int, list[list[float]]]
"""Microseconds of each master for one operation, the home's first, of each round; by how many masters there are."""


def run(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_run(report, Path(name)))


async def _run(report: Report, directory: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clusters = {count: Masters(count) for count in MASTERS}
        for count, each in clusters.items():
            await each.begin(stack, directory / str(count))
            await each.make_groups(LARGE, 8)
            await each.make_groups(SMALL, 100)
        await _pulls(report, clusters)
        await _messages(report, clusters)
        await _between(report, clusters)
        await _answers(report, clusters)
        await _kept(report, clusters)


def _on(masters: int) -> str:
    return f"{masters} masters" if masters > 1 else "1 master"


async def _rounds(
    report: Report, clusters: dict[int, Masters], count: int, work: Work, *, throttled: bool = True
) -> Spent:
    """Lets each of them do the work, which is so many operations, in turn. The first round does not count.

    throttled: whether masters are stopped meanwhile; not where one call takes so long that they are the limit anyway.
    """
    spent: Spent = {masters: [] for masters in clusters}
    for number in range(1 + report.choose(quick=1, usual=3, full=9)):
        for masters, each in clusters.items():
            seconds = await each.spent(each.throttled(work(each)) if throttled else work(each))
            if number:
                spent[masters].append([each / count * 1e6 for each in seconds])
    return spent


def _gain(report: Report, what: str, spent: Spent, aims: dict[int, float]) -> None:
    for masters, rounds in spent.items():
        report.figure(f"{what}, {_on(masters)}, all together", "µs", [sum(each) for each in rounds])
        report.figure(f"{what}, {_on(masters)}, the busiest", "µs", [max(each) for each in rounds])
    for masters in MASTERS[1:]:
        ratios = [max(one) / max(many) for one, many in zip(spent[1], spent[masters], strict=True)]
        aim = aims.get(masters)
        report.figure(f"{what}, {_on(masters)} to one", "ratio", ratios, at_least=aim, headline=True)


async def _pulls(report: Report, clusters: dict[int, Masters]) -> None:
    cursors = {}
    for masters, each in clusters.items():
        await all_of(each.private(each.pairs(1)), 1)
        cursors[masters] = each.appender.highest_id
        chats = [(UIDS[place - behind], uid) for place, uid in enumerate(UIDS) for behind in range(1, MISSED // 2 + 1)]
        await all_of(each.private(chats), AT_ONCE)
        await each.links.reach(each.appender.highest_id)
    uids = UIDS * report.choose(quick=1, usual=4, full=10)

    def pulls(each: Masters, cursor: int, found: int) -> Awaitable[object]:
        return all_of((each.pull(uid, cursor, MISSED, found) for uid in uids), AT_ONCE * each.count)

    spent = await _rounds(report, clusters, len(uids), lambda each: pulls(each, cursors[each.count], MISSED))
    _gain(report, f"pull of {MISSED} messages", spent, {3: 2.5, 6: 5})
    spent = await _rounds(report, clusters, len(uids), lambda each: pulls(each, each.appender.highest_id, 0))
    _gain(report, "empty pull", spent, {3: 2.5, 6: 5})
    for masters in MASTERS[1:]:
        ratios = [sum(many) / sum(one) for one, many in zip(spent[1], spent[masters], strict=True)]
        report.figure(f"empty pull, {_on(masters)} to one, all together", "ratio", ratios, at_most=1.05)


async def _messages(report: Report, clusters: dict[int, Masters]) -> None:
    count = report.choose(quick=500, usual=4000, full=20_000)
    to_many = f"message to {LARGE} members"
    kinds: dict[str, tuple[int, dict[int, float], Work]] = {
        "private message": (count, {3: 1.3}, lambda each: _private(each, count)),
        "private message without the sender's copy": (count, {}, lambda each: _private(each, count, own_copies=False)),
        f"message to {SMALL} members": (count // 2, {}, lambda each: _to_groups(each, SMALL, count // 2)),
        to_many: (count // 20, {3: 2.5, 6: 5}, lambda each: _to_groups(each, LARGE, count // 20)),
    }
    for what, (some, aims, work) in kinds.items():
        spent = await _rounds(report, clusters, some, work, throttled=what != to_many)
        _gain(report, what, spent, aims)
        for masters in MASTERS[1:]:
            report.figure(f"{what}, {_on(masters)}, the home", "µs", [home for home, *_ in spent[masters]])


def _private(each: Masters, count: int, *, own_copies: bool = True, apart: bool | None = None) -> Awaitable[object]:
    return in_bursts(each.private(each.pairs(count, apart=apart), own_copies=own_copies), BURST)


def _to_groups(each: Masters, members: int, count: int) -> Awaitable[object]:
    return in_bursts(each.to_groups(members, count), BURST)


async def _between(report: Report, clusters: dict[int, Masters]) -> None:
    count = report.choose(quick=500, usual=4000, full=20_000)
    found = []
    for what, apart in (("within one of three shards", False), ("between two of three shards", True)):
        three = {3: clusters[3]}
        spent = await _rounds(report, three, count, lambda each, apart=apart: _private(each, count, apart=apart))  # type: ignore[misc]
        found.append([sum(each) for each in spent[3]])
        report.figure(f"private message {what}, all together", "µs", found[-1])
    ratios = [between / within for within, between in zip(*found, strict=True)]
    report.figure("private message between shards to one within", "ratio", ratios, at_most=1.8)


async def _answers(report: Report, clusters: dict[int, Masters]) -> None:
    """Takes the time from a message to its 204."""
    count = report.choose(quick=100, usual=600, full=5000)
    found: dict[int, list[float]] = {masters: [] for masters in clusters}
    for _ in range(report.choose(quick=1, usual=5, full=9)):
        for masters, each in clusters.items():
            took = await _steadily(each, count)
            found[masters].append(statistics.quantiles(took, n=100, method="inclusive")[98])
    for masters, values in found.items():
        report.figure(f"{A_SECOND} private messages a second, {_on(masters)}, p99", "ms", values)
    for masters in MASTERS[1:]:
        more = [many - one for one, many in zip(found[1], found[masters], strict=True)]
        report.figure(f"{A_SECOND} private messages a second, {_on(masters)}, p99 above one's", "ms", more, at_most=3)


async def _steadily(each: Masters, count: int) -> list[float]:
    """Returns the milliseconds of each message."""

    async def took(message: Awaitable[object]) -> float:
        started = time.perf_counter()
        await message
        return (time.perf_counter() - started) * 1000

    begun, taking = time.monotonic(), []
    for number, message in enumerate(each.private(each.pairs(count))):
        taking.append(asyncio.create_task(took(message)))
        await asyncio.sleep(max(0.0, begun + (number + 1) / A_SECOND - time.monotonic()))
    return await asyncio.gather(*taking)


async def _kept(report: Report, clusters: dict[int, Masters]) -> None:
    """Compares what stays in memory, and tells what the archiver costs the home."""
    count = report.choose(quick=2000, usual=12_000, full=100_000)
    kinds: dict[str, tuple[int, Work]] = {
        f"message to {LARGE} members": (count // 20, lambda each: _to_groups(each, LARGE, count // 20)),
        "private message without the sender's copy": (count, lambda each: _private(each, count, own_copies=False)),
        "private message": (count, lambda each: _private(each, count)),
    }
    for what, (some, work) in kinds.items():
        fullest = {}
        for masters, each in clusters.items():
            await each.empty()
            before = each.memory()
            await work(each)
            home, *_ = await each.spent(each.archive())
            await each.forget()
            fullest[masters] = max(now - then for now, then in zip(each.memory(), before, strict=True)) / some
            report.figure(f"{what}, {_on(masters)}, kept by the fullest", "bytes", fullest[masters])
            report.figure(f"{what}, {_on(masters)}, archiving, the home", "µs", home / some * 1e6)
        for masters in MASTERS[1:]:
            ratio = fullest[masters] * masters / fullest[1]
            report.figure(
                f"{what}, {_on(masters)}, kept by the fullest to 1/{masters} of one's", "ratio", ratio, at_most=1.15
            )
