"""Tests who holds a tag, and what they see of it."""

import pytest

from store.addresses import GLOBAL, Inbox, Tag
from store.errors import ChannelRefused
from store.redis import keys
from store.tags.holdings import FOLLOW, MANUAL, PROFILE, Holding, TagInfo
from tests.integration.tags.conftest import TAG, Store, user

NOBODY = {MANUAL: 0, PROFILE: 0, FOLLOW: 0}
UNKNOWN = TagInfo("", "", False, -1, False, NOBODY, 0)


async def make(store: Store, *tags: str, followable: bool = False) -> None:
    for tag in tags or (TAG,):
        await store.tags.put(tag, title=f"T {tag}", followable=followable)


async def test_what_a_tag_is(store: Store) -> None:
    assert await store.holdings.info(TAG) is None
    await make(store, "b", "a.1", "C_-")
    made = [TagInfo(tag, f"T {tag}", False, 0, False, NOBODY, 0) for tag in ("C_-", "a.1", "b")]
    assert await store.holdings.page("", 10) == made
    assert [info.tag for info in await store.holdings.page("a.1", 10)] == ["b"]
    assert [info.tag for info in await store.holdings.page("", 2)] == ["C_-", "a.1"]
    before = await store.redis.xlen(keys.OUTBOX)
    await make(store, "b")
    assert await store.redis.xlen(keys.OUTBOX) == before
    await store.tags.put("b", title="n\nü", followable=True)
    assert await store.holdings.info("b") == TagInfo("b", "n\nü", True, 0, False, NOBODY, 0)


async def test_a_holder_sees_his_own_time(store: Store) -> None:
    await make(store)
    before = await store.tell()
    assert (await store.give(1, 2))[2:] == (2, 0)
    first = await store.tell()
    assert (await store.take(2))[2:] == (0, 1)
    second = await store.tell()
    await store.give(2)
    third = await store.tell()
    assert before < first < second < third
    assert await store.told(1) == [first, second, third]
    assert await store.told(2) == [first, third]
    assert await store.told(3) == []
    assert (await store.holdings.info(TAG) or UNKNOWN).holders == 2


async def test_a_user_holds_a_tag_while_any_source_says_so(store: Store) -> None:
    await make(store, followable=True)
    await store.give(1)
    await store.give(1, source=PROFILE)
    await store.follow(1, "f")
    assert await store.holdings.of_user(user(1)) == [Holding(TAG, f"T {TAG}", (MANUAL, PROFILE, FOLLOW))]
    seen = [await store.tell()]
    for source in (MANUAL, PROFILE):
        await store.take(1, source=source)
        seen.append(await store.tell())
        assert await store.holds(1)
    await store.unfollow(1, "u")
    assert not await store.holds(1)
    await store.tell()
    assert await store.told(1) == seen
    assert await store.held(1) == []


async def test_giving_and_taking_twice_changes_nothing(store: Store) -> None:
    await make(store)
    assert (await store.give(1)).added == 1
    before = await store.state()
    assert tuple(await store.give(1)) == (0, False, 0, 0)
    assert tuple(await store.take(2)) == (0, False, 0, 0)
    assert await store.state() == before


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_tag_that_is_not_there(store: Store, deleted: bool) -> None:
    if deleted:
        await make(store)
        await store.tags.delete(TAG)
    for refused in (
        lambda: store.give(1),
        lambda: store.follow(1, "c"),
        lambda: store.tags.delete(TAG),
        lambda: store.tags.replace(TAG, "job", [0] * store.shards.count),
        lambda: store.tell(),
    ):
        with pytest.raises(ChannelRefused, match="unknown_tag"):
            await refused()
    assert not await store.holds(1)


async def test_following(store: Store) -> None:
    await make(store, followable=True)
    followed = await store.follow(1, "f")
    assert followed.id > 0
    again = await store.follow(1, "f")
    assert (again.id, again.repeated) == (followed.id, True)
    assert (await store.follow(1, "g")).id == 0
    seen = await store.tell()
    await make(store, followable=False)
    with pytest.raises(ChannelRefused, match="not_followable"):
        await store.follow(2, "f")
    with pytest.raises(ChannelRefused, match="not_followable"):
        await store.unfollow(2, "f")
    await store.unfollow(1, "u")
    assert await store.told(1) == [seen]
    assert await store.held(1) == []


async def test_what_the_broker_is_told(store: Store) -> None:
    await make(store)
    await store.give(1, 2)
    await store.give(1, source=PROFILE)
    await store.take(1, 2)
    topic = f"business/tag_{TAG}"
    assert await store.changes() == [(user(1), topic, True), (user(2), topic, True), (user(2), topic, False)]


async def test_a_message_is_stored_once(store: Store) -> None:
    await make(store)
    await store.give(1)
    first = await store.appender.append(Tag(TAG), "0", "same", 0, True, b"{}")
    again = await store.appender.append(Tag(TAG), "0", "same", 0, True, b"{}")
    assert (again.mid, again.repeated) == (first.mid, True)
    assert await store.told(1) == [first.mid]
    await store.archive_all()
    (row,) = await store.archive.newest(first.mid, 1)
    assert (row.topic, row.mid) == (f"business/tag_{TAG}", first.mid)


async def test_a_batch_with_an_unknown_tag_is_stored_but_for_it(store: Store) -> None:
    await make(store)
    await store.give(1)
    sent = [
        store.appender.append(to, "7", "m", 0, True, b"{}")
        for to in (Inbox(user(1)), Tag("nowhere"), Tag(TAG), GLOBAL, Inbox(user(1)))
    ]
    with pytest.raises(ChannelRefused, match="unknown_tag"):
        await sent[1]
    assert len({(await sent[index]).mid for index in (0, 2, 3)}) == 3
    topics = [each.topic for each in await store.pull(user(1))]
    assert topics == [f"single/{user(1)}", f"business/tag_{TAG}", "business/global"]


async def test_deleting_a_tag_takes_it_from_everybody_at_once(store: Store) -> None:
    await make(store, followable=True)
    await store.give(*range(1, 800))
    await store.give(*range(700, 1500), source=PROFILE)
    await store.follow(2000, "f")
    seen = await store.tell()
    await store.tags.delete(TAG)
    assert await store.propagating()
    assert await store.holdings.info(TAG) is None
    assert await store.holdings.page("", 10) == []
    for uid in (1, 750, 1499, 2000):
        assert await store.held(uid) == []
        assert await store.told(uid) == [seen]
    # Made again, it is another tag.
    await make(store)
    assert not await store.propagating()
    await store.give(1)
    last = await store.tell()
    assert await store.told(1) == [seen, last]
    assert await store.told(2) == [seen]
    assert (await store.holdings.info(TAG) or UNKNOWN).holders == 1
    assert not await store.left_of(b"tw:*")
