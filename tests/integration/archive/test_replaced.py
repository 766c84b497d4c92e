"""Edited and recalled messages in the archive: whatever comes first, what they were before is gone."""

import itertools
import time
from collections.abc import Callable

import pytest

from store.addresses import sent_conversation
from store.archive.archive import Archive
from store.archive.archiver import Archiver
from store.archive.tables.blocks import Cutter, unpack
from store.archive.tables.months import DAY, month_of
from store.archive.tables.visible_range import VisibleRange
from store.errors import ArchiveAway
from store.record import Message, encode
from store.redis.client import RedisClient
from tests.integration.archive.outbox_writer import FIRST, message, put, put_data, rows, stored
from tests.integration.archive.test_aggregate import NOW, aggregate_all, aggregator

SENT = message(1, payload=b'{"type":"text","body":"a secret"}')
EDITED = SENT._replace(payload=b'{"id":"id-1","type":"text","body":"edited"}', replaced=FIRST + 10)
EDITED_AGAIN = SENT._replace(payload=b'{"id":"id-1","type":"text","body":"again"}', replaced=FIRST + 20)
RECALLED = SENT._replace(json=False, payload=b"", replaced=FIRST + 30, recalled_by=SENT.sender)
TOO_LATE = EDITED._replace(payload=b"{}", replaced=FIRST + 40)
"""It was judged by what the archive had before the recall."""


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_the_newest_counts_in_whatever_order_they_come(
    archive: Archive, archive_url: str, order: list[int]
) -> None:
    steps = [
        lambda: archive.store_messages([SENT]),
        lambda: archive.replace_messages([EDITED_AGAIN, EDITED]),
        lambda: archive.replace_messages([RECALLED]),
        lambda: archive.replace_messages([TOO_LATE]),
    ]
    for step in [*order, *order]:
        await steps[step]()
    assert await stored(archive_url) == [RECALLED]
    assert await archive.message(SENT.topic, SENT.mid) == RECALLED
    assert await archive.message(SENT.topic, SENT.mid + 1) is None
    everybody = VisibleRange(SENT.topic)
    assert await archive.read([everybody], "", 0, FIRST + 100, 10) == [RECALLED]
    assert await archive.scan(0, FIRST + 100, 10) == [RECALLED]


async def test_an_edited_message_is_given_as_it_is_now(archive: Archive) -> None:
    await archive.store_messages([SENT])
    await archive.replace_messages([EDITED])
    await archive.replace_messages([EDITED_AGAIN])
    assert await archive.newest(FIRST + 100, 10) == [EDITED_AGAIN]


async def test_the_outbox_carries_replacements(
    archive: Archive, archive_url: str, live_redis: RedisClient, archiver_on: Callable[..., Archiver]
) -> None:
    await put(live_redis, [SENT, message(2)])
    await put_data(live_redis, EDITED.replaced, encode(EDITED), b"replace")
    await put_data(live_redis, RECALLED.replaced, encode(RECALLED), b"replace")
    archiver = archiver_on(archive)
    assert await archiver.step() == 4
    assert await stored(archive_url) == [RECALLED, message(2)]


def _old_message(payload: bytes) -> Message:
    return Message(month_of(NOW - 100 * DAY).start + 5, "single/1", "2", "a", 1, True, payload)


async def _packed(url: str) -> dict[str, list[Message]]:
    return {
        name.decode() if isinstance(name, bytes) else str(name): list(unpack(data))  # type: ignore[arg-type]
        for name, data in await rows(url, "SELECT conversation, data FROM block")
    }


async def test_a_recall_that_arrives_while_its_month_is_packed_is_in_the_blocks(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    """The rows were read before it, and would be stored after it."""
    old = _old_message(b'{"body":"a secret"}')
    recalled = old._replace(json=False, payload=b"", replaced=NOW, recalled_by="2")
    await archive.store_messages([old, Message(NOW, "single/1", "2", "z", 1, True, b"{}")])
    month, *_ = await aggregator(live_redis, archive).due(NOW)
    progress = await archive.blocks.begin(month)
    page = await archive.blocks.received(month, "", 0, 10)
    assert page == [old]
    await archive.replace_messages([recalled])
    cutter = Cutter()
    cutter.add(old.topic, page[0])
    block = cutter.rest()
    assert block is not None
    with pytest.raises(ArchiveAway):
        await archive.blocks.store(progress, [block])
    assert month in await aggregate_all(live_redis, archive)
    assert await _packed(archive_url) == {"single/1": [recalled], sent_conversation("2"): [recalled]}


async def test_a_recall_that_comes_behind_a_block_changes_it(
    archive: Archive, archive_url: str, live_redis: RedisClient
) -> None:
    old = _old_message(b'{"body":"a secret"}')
    other = old._replace(mid=old.mid + 1, client_id="b")
    recalled = old._replace(json=False, payload=b"", replaced=NOW, recalled_by="2")
    await archive.store_messages([old, other, Message(NOW, "single/1", "2", "z", 1, True, b"{}")])
    await aggregate_all(live_redis, archive)
    await archive.replace_messages([recalled])
    assert await _packed(archive_url) == {"single/1": [recalled, other], sent_conversation("2"): [recalled, other]}
    assert await archive.read([VisibleRange("single/1")], "", 0, time.time_ns() // 1000, 10) == [
        recalled,
        other,
        Message(NOW, "single/1", "2", "z", 1, True, b"{}"),
    ]
