"""Tags in the archive, read from there, and Redis put right from there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from store.archive.tables.tags import HolderRow, TagRow
from store.groups.groups import Limits
from store.redis import keys
from store.redis.client import RedisClient
from store.tags.holdings import MANUAL, PROFILE
from store.tags.replacement import Replacement
from store.timelines.recovery import StoreRecovery
from tests.integration.groups.conftest import WINDOW_US
from tests.integration.tags.conftest import TAG, Store, user
from tests.servers import RedisServer


@pytest.fixture(params=["sqlite", "mysql", "sqlite with three shards"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, int]:
    """Returns the URL of an archive, and how many shards there are."""
    if request.param == "mysql":
        return request.getfixturevalue("maria_url"), 1
    return f"sqlite:///{tmp_path}/im.db", 3 if "three" in request.param else 1


@pytest_asyncio.fixture
async def store(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path, limits: Limits, archive: tuple[str, int]
) -> AsyncIterator[Store]:
    archive_url, count = archive
    running = Store(redis_server.url, tmp_path, limits, count, archive_url=archive_url)
    await running.start()
    yield running
    await running.stop()


async def busy(store: Store) -> None:
    """Tags with a past."""
    for tag in (TAG, "other", "gone"):
        await store.tags.put(tag, title=f"T\n{tag}", followable=tag == "other")
        await store.give(1, 2, 3, tag=tag)
        await store.give(2, 4, tag=tag, source=PROFILE)
        await store.tell(tag)
    await store.follow(5, "f", tag="other")
    await store.take(1, 2)
    await store.tell()
    await store.give(1)
    await store.tell()
    await store.tags.delete("gone")
    await store.tell("other")


async def known(store: Store) -> object:
    """Returns what is known of tags and users."""
    found: list[object] = [await store.holdings.page("", 100)]
    for uid in range(1, 7):
        found.append(await store.holdings.of_user(user(uid)))
        found += [await store.told(uid, tag) for tag in (TAG, "other", "gone")]
    return found


async def test_what_happened_to_a_tag_is_archived(store: Store) -> None:
    await store.tags.put(TAG, title="A\nB", followable=True)
    given = (await store.give(1)).id
    also = (await store.give(1, 2, source=PROFILE)).id
    await store.take(1)
    taken = (await store.take(1, 2, source=PROFILE)).id
    again = (await store.give(1)).id
    await store.archive_all()
    (row,) = await store.archive.tags.tags("", 10)
    assert row == TagRow(TAG, True, row.made, 0, row.made, "A\nB")
    assert await store.archive.tags.holders(TAG, (0, 0), 10) == [
        HolderRow(TAG, user(1), given, taken, 0, taken),
        HolderRow(TAG, user(1), again, 0, 1, again),
        HolderRow(TAG, user(2), also, taken, 0, taken),
    ]
    await store.tags.delete(TAG)
    await store.propagate()
    await store.archive_all()
    (row,) = await store.archive.tags.tags("", 10)
    assert row.deleted == row.changed > again
    assert [holder.left for holder in await store.archive.tags.holders(TAG, (user(1), given), 10)] == [
        row.deleted,
        taken,
    ]
    assert await store.redis.hlen(keys.DEAD_LETTERS) == 0


@pytest.mark.parametrize("propagated", [True, False])
async def test_an_empty_redis_is_filled_from_the_archive(store: Store, propagated: bool) -> None:
    await busy(store)
    if propagated:
        await store.propagate("gone")
    await store.archive_all()
    before = await known(store)
    await store.flush()
    await store.recovery.ensure()
    assert await known(store) == before
    earlier = await store.told(3)
    last = await store.tell()
    assert await store.told(3) == [*earlier, last]
    # The sources are what they were.
    await store.take(2, tag="other", source=MANUAL)
    assert await store.holds(2, "other")
    await store.take(2, tag="other", source=PROFILE)
    assert not await store.holds(2, "other")
    # A tag that was deleted may be made again: its holders are not those of before.
    await store.tags.put("gone", title="", followable=False)
    assert [await store.holds(uid, "gone") for uid in range(1, 6)] == [False] * 5
    await store.archive_all()
    before = await known(store)
    await store.flush()
    await store.recovery.ensure()
    assert await known(store) == before


@pytest.mark.parametrize("archive", ["sqlite with three shards"], indirect=True)
@pytest.mark.parametrize("emptied", [1, 2])
async def test_a_shard_that_was_emptied_is_filled_alone(store: Store, emptied: int) -> None:
    await busy(store)
    await store.propagate("gone")
    before, epochs = await known(store), await store.epochs()
    redis = store.shards[emptied]
    await redis.delete(*[name async for name in redis.scan_iter(match=redis.prefix + b"*")])
    await store.recovery.ensure()
    assert await known(store) == before
    same = [one == other for one, other in zip(epochs, await store.epochs(), strict=True)]
    assert same == [shard != emptied for shard in range(3)]
    earlier = [await store.told(uid) for uid in range(1, 7)]
    last = await store.tell()
    holding = [await store.holds(uid) for uid in range(1, 7)]
    assert [await store.told(uid) for uid in range(1, 7)] == [
        [*mids, last] if holds else mids for mids, holds in zip(earlier, holding, strict=True)
    ]
    for uid in range(1, 7):
        await store.take(uid, tag="other", source=MANUAL)
    assert [await store.holds(uid, "other") for uid in range(1, 7)] == [False, True, False, True, True, False]


@pytest.mark.parametrize("archived", [True, False])
async def test_a_rebuild_of_a_full_redis_changes_nothing(store: Store, archived: bool) -> None:
    await busy(store)
    if archived:
        await store.archive_all()
    before = await known(store)
    await store.recovery.rebuild()
    assert await known(store) == before


async def test_what_happened_since_the_archive_was_written_stays(store: Store) -> None:
    await busy(store)
    await store.archive_all()
    await store.take(3)
    await store.give(6)
    await store.give(6, tag="other", source=PROFILE)
    await store.take(2, tag="other", source=MANUAL)
    await store.tags.put(TAG, title="new", followable=True)
    await store.tags.delete("other")
    before = await known(store)
    await store.recovery.rebuild()
    assert await known(store) == before


async def test_a_redis_restored_to_an_older_state_learns_what_happened_since(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=False)
    await store.give(1, 2, 3)
    await store.give(3, source=PROFILE)
    older = await store.saved()
    await store.take(1, 3)
    await store.give(4)
    await store.take(2)
    await store.give(2, source=PROFILE)
    await store.tell()
    await store.tags.put(TAG, title="new", followable=True)
    await store.archive_all()
    before = await known(store)
    await store.restore(older)
    await store.recovery.ensure(known=store.tags.highest_id)
    assert await known(store) == before


@pytest.mark.parametrize("written_since", [False, True])
@pytest.mark.parametrize("change", ["holders", "profile", "title", "deleted"])
async def test_a_change_of_a_tag_that_redis_lost_is_noticed(store: Store, change: str, written_since: bool) -> None:
    """No message was lost with it, and nobody remembers that it was given an id."""
    await store.tags.put(TAG, title="", followable=False)
    await store.give(1, 2)
    older = await store.saved()
    if change == "holders":
        await store.take(1)
    elif change == "profile":
        async with Replacement(store.shards, store.tags, TAG) as replacement:
            await replacement.add([user(2), user(3)])
            await replacement.take_effect()
        await store.propagate()
    elif change == "title":
        await store.tags.put(TAG, title="new", followable=True)
    else:
        await store.tags.delete(TAG)
        await store.propagate()
    await store.archive_all()
    before = await known(store)
    epoch = await store.recovery.ensure()
    await store.restore(older)
    if written_since:
        # While the archive was away.
        await store.redis.set(keys.CLOCK, await store.archive.highest_id() + 1_000_000)
    started_again = StoreRecovery(store.shards, store.archive, store.archiver, window_us=WINDOW_US, sync_sender=True)
    assert await started_again.ensure() != epoch
    assert await known(store) == before
    assert await started_again.ensure() == await started_again.epoch(), "and it is whole now"


async def test_who_was_away_for_long_sees_his_tags_from_the_archive(store: Store) -> None:
    await busy(store)
    await store.archive_all()
    seen = await store.told(2), await store.told(1)
    assert [len(each) for each in seen] == [3, 2]
    for uid, mids in zip((2, 1), seen, strict=True):
        roamed = [each.mid for each in await store.roamed(uid) if each.topic == f"business/tag_{TAG}"]
        assert roamed == mids
    redis = store.shards.of(user(1))
    await redis.hset(redis.key(keys.DORMANT), str(user(1)), "0")
    assert await store.told(1) == seen[1]
