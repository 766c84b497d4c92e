"""Tests aggregating months: each exactly once, whichever process dies, and nothing dropped too early."""

import asyncio
import signal
import sys
import time
from collections import Counter

import pytest

from store.addresses import sender_of
from store.archive.aggregate import Aggregator
from store.archive.archive import Archive, open_archive
from store.archive.outbox import Outbox
from store.archive.tables.blocks import Cutter, unpack
from store.archive.tables.months import DAY, Month, Roaming, month_of
from store.archive.upkeep import put_in_order
from store.errors import ArchiveAway, StoreEmpty
from store.record import SERVICE, Message
from store.redis import keys
from store.redis.client import RedisClient
from tests.integration.archive.history import WINDOW_US, history
from tests.integration.archive.outbox_writer import put, rows, stored
from tests.integration.archive.test_archive import rows_changed
from tests.servers import RedisServer

NOW = time.time_ns() // 1000


def aggregator(redis: RedisClient, archive: Archive) -> Aggregator:
    return Aggregator(archive, Outbox(redis), window_us=WINDOW_US)


async def fill(archive: Archive, messages: list[Message]) -> None:
    """Stores messages in separate months."""
    await archive.keep_partitions(messages[0].mid)
    await archive.keep_partitions(NOW)
    for start in range(0, len(messages), 2000):
        await archive.store_messages(messages[start : start + 2000])


async def aggregate_all(redis: RedisClient, archive: Archive) -> list[Month]:
    months = await aggregator(redis, archive).due(NOW)
    for month in months:
        await aggregator(redis, archive).aggregate(month)
    return months


async def packed(url: str) -> Counter[tuple[str, Message]]:
    """Returns what is in blocks: conversation and message."""
    found: Counter[tuple[str, Message]] = Counter()
    for conversation, first_id, last_id, count, data in await rows(
        url, "SELECT conversation, first_id, last_id, messages, data FROM block"
    ):
        name = conversation.decode() if isinstance(conversation, bytes) else str(conversation)
        assert isinstance(data, bytes)
        messages = list(unpack(data))
        assert (messages[0].mid, messages[-1].mid, len(messages)) == (first_id, last_id, count)
        assert month_of(messages[0].mid) == month_of(messages[-1].mid)
        found.update((name, message) for message in messages)
    return found


def wanted(messages: list[Message]) -> Counter[tuple[str, Message]]:
    """Returns what should be: private messages from one user to another twice."""
    found = Counter((message.topic, message) for message in messages)
    for message in messages:
        if message.topic.startswith("single/") and message.sender not in (message.topic[7:], SERVICE):
            found[f"sent/{message.sender}", message] += 1
    return found


async def test_every_month_that_is_over_goes_into_blocks_once(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    messages = history(6000, NOW, 5)
    await fill(archive, messages)
    months = await aggregate_all(live_redis, archive)
    assert [month.edge for month in months[:-1]] == [month.start for month in months[1:]]
    assert months[0] == month_of(messages[0].mid)
    assert months[-1].edge <= messages[-1].mid - WINDOW_US - DAY < month_of(months[-1].edge).edge
    assert await archive.blocks.aggregated() == months
    old = [message for message in messages if message.mid < months[-1].edge]
    assert await packed(archive_url) == wanted(old)
    assert await stored(archive_url) == messages, "rows stay until upkeep drops them"
    assert await aggregate_all(live_redis, archive) == []
    assert await packed(archive_url) == wanted(old)


async def test_odd_messages_come_through(archive: Archive, archive_url: str, live_redis: RedisClient) -> None:
    start = month_of(NOW - 100 * DAY).start
    odd = [
        Message(start, "single/1", "2", "a", 1, False, bytes(range(256))),
        Message(start + 1, "single/1", "2", "b", 1, False, b""),
        Message(start + 2, "single/1", "1", "c", 1, True, b"{}"),
        Message(start + 3, "single/1", SERVICE, "d", 1, True, b"{}"),
        Message(start + 4, "single/9", "s" * 255, "e", 1, False, b"\n\n\x00\xff"),
        Message(start + 5, "business/tag_Ab", "2", "f", 1, False, b"\xff" * 1_048_576),
        Message(start + 6, "business/tag_aB", "opérateur", "g", 1, True, '{"a":"日本"}'.encode()),
        *(Message(start + 10 + n, "single/1", "2", f"h{n}", 1, False, b"\0" * 50_000) for n in range(300)),
    ]
    await fill(archive, [*odd, Message(NOW, "single/1", "2", "z", 1, True, b"{}")])
    await aggregate_all(live_redis, archive)
    assert await packed(archive_url) == wanted(odd)


async def test_a_month_is_due_when_nothing_can_be_added_to_it(archive: Archive, live_redis: RedisClient) -> None:
    month = month_of(NOW - 100 * DAY)
    old = Message(month.start + 5, "single/1", "2", "a", 1, True, b"{}")
    due = aggregator(live_redis, archive).due
    assert await due(NOW) == []
    await archive.store_messages([old])
    assert await due(NOW) == [], "the newest message is in it, others may follow"
    newest = old._replace(mid=month.edge + WINDOW_US + DAY - 1)
    await archive.store_messages([newest])
    assert await due(NOW) == []
    await archive.store_messages([newest._replace(mid=newest.mid + 1)])
    assert await due(NOW) == [month]
    assert await due(newest.mid) == [], "the clock says that it is in the window yet"
    await put(live_redis, [old._replace(mid=month.edge - 1)])
    assert await due(NOW) == [], "the archive lacks one of its messages"
    await live_redis.delete(keys.OUTBOX)
    await put(live_redis, [old._replace(mid=month.edge)])
    assert await due(NOW) == [month]
    await live_redis.delete(keys.EPOCH)
    with pytest.raises(StoreEmpty):
        await due(NOW)


async def test_a_month_without_messages_is_aggregated_too(archive: Archive, live_redis: RedisClient) -> None:
    await fill(archive, [Message(NOW - days * DAY, "single/1", "2", "a", 1, True, b"{}") for days in (150, 0)])
    months = await aggregate_all(live_redis, archive)
    assert len(months) >= 3
    assert await archive.blocks.aggregated() == months


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("steps", [1, 3, 5])
async def test_a_killed_aggregation_is_finished_by_the_next(
    archive: Archive, archive_url: str, live_redis: RedisClient, redis_server: RedisServer, moment: str, steps: int
) -> None:
    messages = history(4000, NOW, 3)
    await fill(archive, messages)
    packed_so_far = [0]
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.archive.aggregating"),
            *(redis_server.url, archive_url, moment, str(steps)),
        )
        assert await process.wait() == -signal.SIGKILL
        half_done = await packed(archive_url)
        assert all(count == 1 for count in half_done.values())
        packed_so_far.append(len(half_done))
    if moment == "after":
        assert packed_so_far[0] < packed_so_far[1] < packed_so_far[2], "it went on where the other one died"
    await aggregate_all(live_redis, archive)
    edge = (await archive.blocks.aggregated())[-1].edge
    assert await packed(archive_url) == wanted([message for message in messages if message.mid < edge])


async def test_of_several_at_once_one_goes_on(archive: Archive, archive_url: str, live_redis: RedisClient) -> None:
    messages = history(8000, NOW, 3)
    await fill(archive, messages)
    others = [open_archive(archive_url) for _ in range(3)]
    months = await aggregator(live_redis, archive).due(NOW)
    results = await asyncio.gather(
        *(aggregate_all(live_redis, each) for each in (archive, *others)), return_exceptions=True
    )
    for each in others:
        await each.close()
    finished = [result for result in results if not isinstance(result, BaseException)]
    failed = [result for result in results if isinstance(result, BaseException)]
    assert finished
    # One that begins later, as on a busy machine, may find a month done already, and finish the others.
    assert all(result == months[len(months) - len(result) :] for result in finished)
    assert all(isinstance(error, ArchiveAway) and "another process" in str(error) for error in failed)
    assert await packed(archive_url) == wanted([message for message in messages if message.mid < months[-1].edge])


async def test_a_month_of_which_blocks_lack_something_stays_in_rows(archive: Archive, live_redis: RedisClient) -> None:
    messages = history(3000, NOW, 3)
    await fill(archive, messages)
    month = (await aggregator(live_redis, archive).due(NOW))[0]
    cutter = Cutter()
    cutter.add("single/1004", next(message for message in messages if message.topic == "single/1004"))
    block = cutter.rest()
    assert block is not None
    await archive.blocks.store(await archive.blocks.begin(month), [block])
    with pytest.raises(ArchiveAway, match="stays in rows"):
        await aggregator(live_redis, archive).aggregate(month)
    assert await archive.blocks.aggregated() == []


async def test_upkeep_drops_rows_an_hour_after_they_are_in_blocks(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    messages = history(3000, NOW, 6)
    await fill(archive, messages)

    async def upkeep(roaming: Roaming) -> list[Message]:
        await put_in_order(archive, roaming, 7.0, NOW)
        return await stored(archive_url)

    assert await upkeep("quarter") == messages, "never one that is not aggregated, however old"
    months = await aggregator(live_redis, archive).due(NOW)
    for month in months[:2]:
        await aggregator(live_redis, archive).aggregate(month)
    assert await upkeep("year") == messages, "who read before it was switched over still finds them"
    await age(archive_url, 3590)
    assert await upkeep("year") == messages
    await age(archive_url, 20)
    left = [message for message in messages if message.mid >= months[1].edge]
    assert await upkeep("year") == left
    assert await upkeep("year") == left
    assert sum((await packed(archive_url)).values()) > 0
    assert await upkeep("quarter") == left, "beyond a quarter and a month, and not aggregated"


async def test_upkeep_drops_blocks_that_no_pull_reaches(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    messages = history(3000, NOW, 9)
    await fill(archive, messages)
    months = await aggregate_all(live_redis, archive)
    before = await packed(archive_url)
    await put_in_order(archive, "year", 7.0, NOW)
    assert await packed(archive_url) == before
    await put_in_order(archive, "quarter", 7.0, NOW)
    beyond = messages[-1].mid - 123 * DAY
    if "mysql" in archive_url:
        beyond = max(month.edge for month in months if month.edge <= beyond)
    kept = {name for name, message in before if message.mid >= beyond}
    after = await packed(archive_url)
    assert all(after[each] == 1 for each in before if each[1].mid >= beyond)
    assert 0 < sum(after.values()) < sum(before.values())
    assert kept
    if "mysql" in archive_url:
        assert min(message.mid for _, message in after) >= beyond
    assert any(sender_of(name) for name, _ in after)


async def age(url: str, seconds: int) -> None:
    """Makes it so much longer ago that months were switched over."""
    await rows_changed(url, f"UPDATE aggregate_month SET aggregated_at = aggregated_at - {seconds * 1000}")
