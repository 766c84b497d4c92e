"""Where users' timelines lie, and how the keys of shards begin."""

from collections import Counter
from pathlib import Path

import pytest
from redis.crc import key_slot

from store.redis import keys
from store.redis.shards import Shards, shard_among

BLOCK = keys.USERS_PER_BITMAP
PAGE = Path(__file__).parents[3] / "docs" / "operators" / "scale.md"


@pytest.mark.parametrize("count", [3, 8, 16])
@pytest.mark.parametrize("step", [1, 2, 3, 10, 256, 1000, 1024, 4096, 2**20], ids=str)
def test_blocks_of_users_are_spread_evenly(count: int, step: int) -> None:
    """step: of blocks, as generators of ids make them: one after the other, or in powers of two."""
    shares = Counter(shard_among(block * step * BLOCK, count) for block in range(1024))
    assert max(shares.values()) <= 1024 / count * 1.15


def test_users_of_one_presence_bitmap_lie_in_one_shard() -> None:
    assert len({shard_among(7 * BLOCK + user, 64) for user in range(0, BLOCK, 17)}) == 1


def test_there_is_nothing_but_the_home_without_shards() -> None:
    shards = Shards(["home"])
    assert {shards.number(uid) for uid in (1, 2**40, 2**53 - 1)} == {0}
    assert shards.parts([5, 2**40], int) == [("home", [5, 2**40])]


def test_what_belongs_to_users_is_parted_by_their_shards_in_its_order() -> None:
    shards = Shards(["home", "one", "two"])
    assert shards.parts([10_001, 1, 20_000, 10_000, 2], int) == [
        ("one", [10_001, 10_000]),
        ("home", [1, 2]),
        ("two", [20_000]),
    ]


@pytest.mark.parametrize("shards", [2, 3, 8, 16, 64])
def test_each_of_equal_ranges_has_the_slot_of_one_shard(shards: int) -> None:
    slots = [key_slot(keys.in_shard(keys.CLOCK, keys.shard_prefix(shard, shards))) for shard in range(shards)]
    assert sorted(slot * shards // 16384 for slot in slots) == [*range(shards)]


@pytest.mark.parametrize(("shards", "masters"), [(3, 3), (6, 3), (8, 3), (16, 3), (8, 6), (12, 6), (64, 6), (64, 12)])
def test_masters_with_equal_ranges_have_as_many_shards_or_one_more(shards: int, masters: int) -> None:
    slots = [key_slot(keys.shard_prefix(shard, shards)) for shard in range(shards)]
    counts = Counter(slot * masters // 16384 for slot in slots)
    assert len(counts) == masters
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_key_of_a_shard_has_its_hash_tag() -> None:
    prefix = keys.shard_prefix(2, 3)
    assert keys.in_shard(keys.inbox(7, 1), prefix) == prefix + keys.inbox(7, 1).removeprefix(keys.PREFIX)
    assert keys.shard_prefix(0, 3) == keys.PREFIX


@pytest.mark.parametrize("count", [3, 6, 12])
def test_the_page_has_the_slots(count: int) -> None:
    slots = ", ".join(str(key_slot(keys.shard_prefix(shard, count))) for shard in range(count))
    assert f"| {count} | {slots} |" in PAGE.read_text()
