"""Hot channels: when a channel becomes one, that Redis is spared, and that the answers are the same."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hooks.messaging.replacement_notices import read_report
from store.addresses import GLOBAL
from store.errors import StoreBehind, StoreEmpty
from store.record import Message
from store.redis import keys
from store.timelines import hot_channels
from store.timelines.hot_channels import CachedChannel, HotChannels
from store.timelines.pull import Pulled
from store.timelines.sweep import Sweeper
from tests.integration.app import until
from tests.integration.groups.conftest import GID, WINDOW_US, Store, uids

CHANNEL = f"group:{GID}"
Move = Callable[[Store], Awaitable[None]]


async def say(store: Store, count: int = 1, sender: int = 1, gid: int = GID) -> list[int]:
    return [(await store.say(sender, gid)).mid for _ in range(count)]


async def heat(store: Store, *users: int) -> None:
    """Everything that the users read becomes hot."""
    for uid in users:
        await store.pull(uid)
    await store.hot.step()


async def second(store: Store) -> tuple[int, int, int]:
    """Hits, and misses that were cold and older, since the second before."""
    await store.hot.step()
    return store.seconds[-1][:3]


async def ranges(store: Store) -> int:
    """Returns how often Redis read a timeline since its counts were reset."""
    stats = await store.redis.info("commandstats")
    return int(stats.get("cmdstat_zrangebyscore", {"calls": 0})["calls"])


def mids(pulled: Pulled) -> list[int]:
    return [message.mid for message in pulled.messages]


async def test_so_many_hits_make_a_channel_hot_and_fewer_cool_it(store: Store) -> None:
    hot = HotChannels(store.redis, 4.0, read_report, store.seconds.append)
    store.puller = store.new_puller(hot)
    await store.create(2, mode="read")
    await say(store)
    for hits, rate in ((3, None), (4, 4.0), (2, 3.0), (8, 5.5), (0, 2.75), (0, None), (3, None), (8, 8.0)):
        for _ in range(hits):
            await store.puller.pull(2, 0, 10)
        await hot.step()
        assert store.seconds[-1].rates == ({} if rate is None else {CHANNEL: rate})
        assert list(hot.offer().held) == ([] if rate is None else [CHANNEL])
    await store.puller.pull(2, 0, 10)
    await hot.step(seconds=0.1)
    assert store.seconds[-1].rates == {CHANNEL: 9.0}, "a second that was shorter"


async def test_a_pull_without_news_is_no_hit(store: Store) -> None:
    await store.create(2, mode="read")
    (sent,) = await say(store)
    for uid, cursor in ((2, sent), (3, 0)):
        await store.puller.pull(uid, cursor, 10)
    assert await second(store) == (0, 0, 0)
    assert store.seconds[-1].rates == {}


async def test_redis_does_not_read_what_is_held(store: Store) -> None:
    await store.create(*uids(2, 9), mode="read")
    to_all = await store.appender.append(GLOBAL, "ops", "g", 0, True, b"{}")
    sent = [to_all.mid, *await say(store, 20)]
    await heat(store, 2)
    assert set(store.seconds[-1].rates) == {CHANNEL, GLOBAL.channel}
    await store.redis.config_resetstat()
    for uid in uids(2, 9):
        assert mids(await store.puller.pull(uid, to_all.mid - 1, 1000)) == sent
    assert await ranges(store) == 9, "the inboxes"
    assert await second(store) == (18, 0, 0)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize("synced", [True, False])
async def test_what_is_new_is_in_the_next_pull(store: Store, limit: int, synced: bool) -> None:
    await store.create(2, mode="read")
    sent = await say(store, 3)
    await heat(store, 2)
    for _ in range(5):
        sent += await say(store, 2)
        if synced:
            await store.hot.step()
        for uid in (1, 2):
            assert await store.texts(uid, limit) == sent
    assert (await second(store))[1:] == (0, 0)


async def test_what_is_new_is_read_once(store: Store) -> None:
    await store.create(*uids(2, 9), mode="read")
    (first,) = await say(store)
    await heat(store, 2)
    (new,) = await say(store)
    await store.redis.config_resetstat()
    for uid in uids(1, 10):
        assert mids(await store.puller.pull(uid, first, 10)) == [new]
    assert await ranges(store) == 11


async def test_pulls_of_the_same_moment(store: Store) -> None:
    await store.create(*uids(2, 30), mode="read")
    sent = await say(store, 3)
    await heat(store, 2)
    for _ in range(5):
        say_more = asyncio.gather(*(store.say(1) for _ in range(8)))
        syncing = asyncio.create_task(store.hot.step())
        for each in await asyncio.gather(*(store.puller.pull(uid, 0, 1000) for uid in uids(2, 30))):
            shown = [message.mid for message in each.messages if message.topic == f"group/{GID}"]
            assert shown[: len(sent)] == sent
            assert shown == sorted(set(shown))
            assert max(shown) <= each.last_id
        await syncing
        sent += sorted(stored.mid for stored in await say_more)
        assert await store.texts(7) == sent


async def test_a_channel_that_is_far_ahead_is_read_from_redis_until_the_next_second(store: Store) -> None:
    await store.create(2, mode="read")
    sent = await say(store)
    await heat(store, 2)
    sent += await say(store, 40)
    assert await store.texts(2) == sent
    assert await second(store) == (0, 0, 1)
    assert await store.texts(2) == sent
    assert await second(store) == (1, 0, 0)


async def test_a_cursor_below_what_is_held_reads_from_redis(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_channels, "CHANNEL_BYTES", 10 * (4 + 1024))
    await store.create(2, mode="read")
    sent = await say(store, 200)
    await heat(store, 2)
    held = store.hot.offer().held[CHANNEL]
    assert held.low in sent
    assert list(held.ids) == sent[sent.index(held.low) + 1 :]
    assert held.size <= hot_channels.CHANNEL_BYTES
    for limit in (3, 7, 1000):
        assert await store.texts(2, limit) == sent
    hits, cold, older = await second(store)
    assert hits > 0
    assert older > 0
    assert cold == 0
    sent += await say(store, 7)
    assert await store.texts(2) == sent
    assert await store.texts(2, 5) == sent
    grown = store.hot.offer().held[CHANNEL]
    assert grown.low > held.low
    assert grown.size <= hot_channels.CHANNEL_BYTES


async def test_more_may_be_new_than_a_channel_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_channels, "CHANNEL_BYTES", 10 * (4 + 1024))
    await store.create(2, mode="read")
    sent = await say(store, 5)
    await heat(store, 2)
    sent += await say(store, 40)
    await store.hot.step()
    held = store.hot.offer().held[CHANNEL]
    assert list(held.ids) == sent[sent.index(held.low) + 1 :]
    for limit in (3, 1000):
        assert await store.texts(2, limit) == sent


async def test_one_message_may_be_more_than_a_channel_holds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_channels, "CHANNEL_BYTES", 100)
    await store.create(2, mode="read")
    sent = await say(store, 2)
    await heat(store, 2)
    assert store.hot.offer().held == {CHANNEL: CachedChannel(sent[-1], sent[-1])}
    sent += await say(store)
    assert await store.texts(2) == sent


async def test_the_hottest_channels_are_held(store: Store) -> None:
    store.hot = HotChannels(store.redis, 1.0, read_report, channels=2)
    store.puller = store.new_puller(store.hot)
    for uid, gid in enumerate((1, 2, 3), 11):
        await store.create(uid, gid=gid, mode="read")
        await say(store, gid=gid)
    await heat(store, 11, 11, 12, 13, 13)
    assert set(store.hot.offer().held) == {"group:1", "group:3"}
    await heat(store, *[12] * 8, 13)
    assert set(store.hot.offer().held) == {"group:2", "group:3"}


async def test_a_second_takes_only_so_much_from_redis(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_channels, "_SYNC_BYTES", 1)
    for gid in (1, 2, 3):
        await store.create(2, gid=gid, mode="read")
        await say(store, gid=gid)
    await heat(store, 2)
    for held in (1, 2, 3, 3):
        assert len(store.hot.offer().held) == held
        assert len(await store.texts(2)) == 3
        await store.hot.step()


async def test_members_see_their_own_time(store: Store) -> None:
    await store.create(2, 3, mode="read", open=True)
    first = await say(store, 2)
    await heat(store, 1)
    await store.command("leave", GID, 2)
    await store.command("join", GID, 4)
    second_ = await say(store, 2)
    await store.command("join", GID, 2)
    third = await say(store, 2)
    await store.command("kick", GID, 1, members=[2, 4])
    fourth = await say(store, 2)
    await store.hot.step()
    for limit in (1, 2, 1000):
        assert await store.texts(2, limit) == first + third
        assert await store.texts(3, limit) == first + second_ + third + fourth
        assert await store.texts(4, limit) == second_ + third
        assert await store.texts(5, limit) == []
    assert (await second(store))[1:] == (0, 0)


async def test_another_mode_and_back(store: Store) -> None:
    await store.create(2, mode="read")
    sent = await say(store, 2)
    await heat(store, 2)
    for mode in ("write", "read", "write"):
        await store.command("change_mode", GID, 1, mode=mode)
        sent += await say(store, 2)
        for limit in (1, 1000):
            assert await store.texts(2, limit) == sent


async def lose(store: Store) -> None:
    await store.flush()
    await store.recovery.ensure()


async def lose_nothing(store: Store) -> None:
    """Messages that were sent in write mode lie in the channel then, among what is held."""
    await store.archive_all()
    await lose(store)


async def rebuild(store: Store) -> None:
    await store.recovery.rebuild()


@pytest.mark.parametrize("begins_anew", [lose, lose_nothing, rebuild])
@pytest.mark.parametrize("first", ["pull", "step"])
async def test_another_life_of_the_store_empties_it(store: Store, begins_anew: Move, first: str) -> None:
    await store.create(2, mode="read")
    sent = await say(store)
    await store.command("change_mode", GID, 1, mode="write")
    sent += await say(store, 2)
    await store.command("change_mode", GID, 1, mode="read")
    sent += await say(store, 2)
    await store.archive_all()
    lost = await say(store, 2)
    await heat(store, 2)
    assert await store.texts(2) == sent + lost
    await begins_anew(store)
    kept = sent if begins_anew is lose else sent + lost
    if first == "step":
        await store.hot.step()
        assert list(store.hot.offer().held) == [CHANNEL]
    for limit in (1000, 1, 3):
        assert await store.texts(2, limit) == kept
    kept += await say(store)
    assert await store.texts(2) == kept


async def test_an_answer_of_an_earlier_life_that_comes_late(store: Store) -> None:
    await store.create(2, mode="read")
    sent = await say(store, 2)
    await store.archive_all()
    await heat(store, 2)
    late = store.hot.offer()
    await lose(store)
    await store.hot.step()
    await store.pull(2)
    store.hot.begin(late.epoch)
    store.hot.take(late, CHANNEL, sent[-1] + 1, [b"%d\ngroup/77\n1\nx\n0\nj\n{}" % (sent[-1] + 1)])
    for _ in range(3):
        assert await store.texts(2) == sent
        await store.hot.step()
    assert list(store.hot.offer().held) == [CHANNEL]


async def test_an_empty_redis_is_not_answered_for(store: Store) -> None:
    await store.create(2, mode="read")
    await say(store)
    await heat(store, 2)
    await store.flush()
    with pytest.raises(StoreEmpty):
        await store.puller.pull(2, 0, 10)
    with pytest.raises(StoreEmpty):
        await store.hot.step()


async def test_a_redis_that_was_started_again_is_not_read(store: Store) -> None:
    await store.create(2, mode="read")
    await say(store)
    await heat(store, 2)
    await store.redis.script_flush()
    with pytest.raises(StoreBehind):
        await store.hot.step()
    await store.recovery.ensure()
    await store.hot.step()


async def test_a_redis_that_lacks_what_is_held_is_believed(store: Store) -> None:
    """A replica that took over, and knows neither the newest messages nor that it lacks them."""
    await store.create(2, mode="read")
    sent = await say(store, 3)
    await heat(store, 2)
    await store.redis.zremrangebyscore(keys.channel(CHANNEL), sent[-1], sent[-1])
    await store.redis.hset(keys.HEADS, CHANNEL, sent[-2])
    assert await store.texts(2) == sent[:-1]


async def test_nothing_below_the_edge_is_given(store: Store) -> None:
    """The cache may hold older messages than the window's; so does Redis, until the next write trims it."""
    await store.create(2, mode="read")
    sent = await say(store, 3)
    await heat(store, 2)
    store.puller = store.new_puller(store.hot, window_us=300_000)

    async def gone() -> bool:
        return not await store.texts(2)

    await until(gone)
    assert list(store.hot.offer().held[CHANNEL].ids) == sent


async def test_the_cold_read_the_archive_and_what_is_held(store: Store) -> None:
    await store.create(2, 3, mode="read")
    early = await say(store, 3)
    await heat(store, 3)
    await Sweeper(store.redis, zombie_days=-1, window_us=WINDOW_US, roaming_us=WINDOW_US).sweep()
    await store.archive_all()
    await store.pull(2)
    later = await say(store, 3)
    for limit in (1, 2, 1000):
        assert await store.texts(2, limit) == early + later
    assert (await second(store))[0] > 0


def test_what_is_held_between_two_ids() -> None:
    messages = [Message(mid, "group/77", "1", "x", 0, True, b"{}") for mid in range(1, 8)]
    held = CachedChannel(0, 0).grown(9, messages, read_report)
    assert held.head == 9
    assert held.grown(8, [messages[0]._replace(mid=10)], read_report) is held
    for intervals, after, most, expected in (
        ([(0, 99)], 0, 99, [1, 2, 3, 4, 5, 6, 7]),
        ([(2, 4), (5, 7)], 0, 99, [3, 6]),
        ([(2, 5), (5, 99)], 3, 99, [4, 6, 7]),
        ([(0, 99)], 3, 2, [4, 5]),
        ([(0, 3), (4, 99)], 0, 3, [1, 2, 5]),
        ([(0, 3)], 7, 99, []),
        ([], 0, 99, []),
    ):
        assert [message.mid for message in held.between(intervals, after, most)] == expected
