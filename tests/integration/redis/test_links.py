"""What the home has written is carried to other shards: in order, once, by the process that comes first."""

import asyncio
import gc
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from store.addresses import Inbox
from store.errors import EntryFailed, StoreAway, StoreEmpty
from store.operations.dead_letters import DeadLetters
from store.redis import keys, links
from store.redis.links import Links
from store.redis.shards import Shards
from store.timelines.append import Stored
from store.timelines.spans import SPAN_SECONDS, span
from tests.integration.redis.linked import (
    ELSEWHERE,
    WINDOW_US,
    Store,
)


async def test_who_comes_next_carries_what_a_process_has_left(store: Store) -> None:
    left = await store.leave()
    assert await store.received() == []
    first = left[0].id
    assert store.gaps == []
    second = await store.say()
    assert store.gaps == [1]
    assert await store.received() == [first, second.mid]
    assert await store.clock() >= second.mid


async def test_what_nobody_carries_is_carried_after_all(store: Store) -> None:
    left = await store.leave()
    await store.links.step()
    assert await store.received() == [left[0].id]


async def test_a_caller_that_goes_away_leaves_a_failure_to_nobody(store: Store) -> None:
    """asyncio would report that as an unexpected error."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    left = await store.leave(3)
    await store.other.rename(store.other.key(keys.EPOCH), b"away")
    first, gone, last = (asyncio.create_task(store.links.carry([entry])) for entry in left)
    await asyncio.sleep(0)
    gone.cancel()
    for staying in (first, last):
        with pytest.raises(StoreEmpty):
            await staying
    await asyncio.wait([gone])
    del first, gone, last, staying
    gc.collect()
    assert reported == []


async def test_a_repeat_is_answered_when_the_message_has_arrived(store: Store) -> None:
    left = await store.leave(client_id="again")
    again = await store.say(client_id="again")
    assert again == Stored(left[0].id, True)
    assert await store.received() == [again.mid]


async def test_entries_that_come_late_and_twice_are_passed_over(store: Store) -> None:
    left = await store.leave(2)
    for entry in (left[1], left[0], left[1]):
        await store.links.carry([entry])
    assert await store.received() == [entry.id for entry in left]


async def test_what_fails_in_the_home_does_not_arrive_elsewhere(store: Store) -> None:
    """The first messages of a batch have bodies that cannot be written, and the others have none in the home."""
    now = time.time_ns() // 1000
    for at in (now, now + SPAN_SECONDS * 1_000_000):
        await store.home.set(keys.bodies(span(at)), "no bodies")
    appender = store.appender(store.links)
    large = b'"%b"' % (b"." * 9000)
    writing = [
        appender.append(Inbox(ELSEWHERE), sender, f"{sender}-{number}", 0, True, large)
        for sender in ("1", str(ELSEWHERE + 1))
        for number in range(2)
    ]
    appender.start()
    answers = await asyncio.gather(*writing, return_exceptions=True)
    await appender.stop()
    assert [type(answer) for answer in answers] == [EntryFailed, EntryFailed, Stored, Stored]
    assert await store.received() == [answer.mid for answer in answers if isinstance(answer, Stored)]


async def test_an_item_that_cannot_be_applied_is_set_aside_in_the_end(store: Store) -> None:
    """It stops its link for five tries; then it is a dead letter, and what lies beside and behind it arrives."""
    neighbour = ELSEWHERE + 1
    await store.other.zadd(store.other.key(keys.SEEN), {str(neighbour): 1})
    now = time.time_ns() // 1000
    for at in (now, now + SPAN_SECONDS * 1_000_000):
        await store.other.set(store.other.key(keys.inbox(ELSEWHERE, span(at))), "no inbox")
    letters = DeadLetters(store.home)
    links = Links(store.shards, window_us=WINDOW_US, letters=letters)
    appender = store.appender(links)
    writing = [appender.append(Inbox(uid), "1", f"to {uid}", 0, True, b"{}") for uid in (ELSEWHERE, neighbour)]
    appender.start()
    answers = await asyncio.gather(*writing, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreAway, StoreAway]
    for _ in range(4):
        assert await letters.page(0, 10) == []
        with pytest.raises(StoreAway, match="cannot apply what is on its link"):
            await appender.append(Inbox(ELSEWHERE), "1", f"to {ELSEWHERE}", 0, True, b"{}")
    (letter,) = await letters.page(0, 10)
    assert (letter["source"], letter["reason"]) == ("link", "link_failed")
    assert "WRONGTYPE" in letter["message"]
    assert (await appender.append(Inbox(ELSEWHERE), "1", f"to {ELSEWHERE}", 0, True, b"{}")).repeated
    beside = await appender.append(Inbox(neighbour), "1", f"to {neighbour}", 0, True, b"{}")
    behind = await appender.append(Inbox(neighbour), "1", "behind", 0, True, b"{}")
    await appender.stop()
    await links.aclose()
    pulled = (await store.puller.pull(neighbour, 0, 1000)).messages
    assert [message.mid for message in pulled] == [beside.mid, behind.mid]
    assert len(await letters.page(0, 10)) == 1


async def test_a_home_by_itself_has_no_links(store: Store) -> None:
    alone = Links(Shards([store.home]), window_us=WINDOW_US)
    await alone.step()
    await alone.aclose()


async def test_what_failed_in_a_step_that_nobody_waited_for_is_in_the_log(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_BEAT_SECONDS", 0.0)
    careful = Links(store.shards, window_us=WINDOW_US, replicas=1)
    await careful.step()
    (beat,) = (task for task in asyncio.all_tasks() if task.get_name() == "beat")
    await asyncio.wait([beat])
    with capture_logs() as logs:
        await careful.aclose()
    assert [(each["event"], each["shard"]) for each in logs] == [("beat_failed", 1)]


async def test_a_shard_with_no_news_has_everything_up_to_now(store: Store) -> None:
    await store.home.set(keys.CLOCK, time.time_ns() // 1000 - 60_000_000)
    before = time.time_ns() // 1000
    await store.links.step()
    assert await store.clock() >= before


async def test_what_was_applied_leaves_links_that_are_too_large_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_KEPT_BYTES", 0)
    await store.say()
    await store.links.step()
    assert await store.home.xlen(keys.LINK_PREFIX + b"1") == 0
    left = await store.leave()
    assert await store.home.xlen(keys.LINK_PREFIX + b"1") == 1
    await store.links.step()
    assert (await store.received())[-1] == left[0].id


async def test_what_was_applied_leaves_the_link_in_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.say()
    assert int(await store.home.get(keys.LINK_BYTES) or 0) > 0
    await store.links.step()
    assert await store.home.xlen(keys.LINK_PREFIX + b"1") == 1
    monkeypatch.setattr(links, "_KEPT_SECONDS", 0.0)
    await store.links.step()
    assert await store.home.xlen(keys.LINK_PREFIX + b"1") == 0
    assert int(await store.home.get(keys.LINK_BYTES) or 0) == 0
    second = await store.say()
    assert (await store.received())[-1] == second.mid
