"""Messages of groups in both modes: who sees which, and how often."""

import asyncio

import pytest

from store.addresses import Group, Inbox
from store.errors import ChannelRefused, EntryFailed
from store.redis import keys
from store.timelines.append import Appender, Stored
from store.timelines.spans import span
from store.timelines.sweep import Sweeper
from tests.integration.groups.conftest import GID, WINDOW_US, Store, uids
from tests.integration.inboxes import break_inbox, ids_in

MODES = pytest.mark.parametrize("mode", ["write", "read"])


async def say(store: Store, sender: int, count: int = 1) -> list[int]:
    return [(await store.say(sender)).mid for _ in range(count)]


@MODES
@pytest.mark.parametrize("limit", [1, 2, 1000])
async def test_every_member_sees_every_message_once(store: Store, mode: str, limit: int) -> None:
    await store.create(2, 3, mode=mode)
    sent = await say(store, 1, 3) + await say(store, 2, 2)
    for uid in (1, 2, 3):
        assert await store.texts(uid, limit) == sent
    assert await store.texts(4) == []


@MODES
async def test_a_late_joiner_and_a_leaver(store: Store, mode: str) -> None:
    await store.create(2, mode=mode, open=True)
    before = await say(store, 1)
    await store.command("join", GID, 3)
    both = await say(store, 1)
    await store.command("leave", GID, 2)
    after = await say(store, 1)
    assert await store.texts(2) == before + both
    assert await store.texts(3) == both + after
    await store.command("join", GID, 2)
    again = await say(store, 3)
    await store.command("kick", GID, 1, members=[2])
    await say(store, 3)
    assert await store.texts(2) == before + both + again


@MODES
async def test_a_group_refuses_strangers(store: Store, mode: str) -> None:
    with pytest.raises(ChannelRefused, match="unknown_group"):
        await store.say(1)
    await store.create(2, mode=mode)
    before = await store.state()
    with pytest.raises(ChannelRefused, match="not_a_member"):
        await store.say(9)
    assert await store.state() == before


@MODES
async def test_the_service_needs_no_membership(store: Store, mode: str) -> None:
    await store.create(2, mode=mode)
    mid = (await store.say(0)).mid
    for uid in (1, 2):
        assert mid in [message.mid for message in await store.pull(uid)]


@MODES
async def test_a_repeat_is_known_whatever_happened_since(store: Store, mode: str) -> None:
    await store.create(2, mode=mode)
    first = await store.say(2, client_id="x")
    await store.command("leave", GID, 2)
    assert await store.say(2, client_id="x") == Stored(first.mid, True)
    assert await store.texts(1) == [first.mid]


async def test_changing_the_mode_loses_and_repeats_nothing(store: Store) -> None:
    await store.create(2)
    sent = []
    for mode in ("read", "write", "read", "write"):
        sent += await say(store, 1, 2)
        await store.command("change_mode", GID, 1, mode=mode)
        sent += await say(store, 2, 2)
    for uid in (1, 2):
        for limit in (1, 3, 1000):
            assert await store.texts(uid, limit) == sent
    changes = [control.body.get("mode") for control in await store.controls(2) if control.kind == "changed"]
    assert changes == ["read", "write", "read", "write"]


async def test_changing_to_the_same_mode_changes_nothing(store: Store) -> None:
    await store.create(2)
    assert (await store.command("change_mode", GID, 1, mode="write")).told == {}


async def test_the_dismissed_groups_history_stays(store: Store) -> None:
    await store.create(2, mode="read")
    sent = await say(store, 1, 2)
    await store.command("dismiss", GID, 1)
    assert await store.texts(2) == sent


async def test_without_the_senders_own_copy(store: Store) -> None:
    store.appender._sync_sender = False
    await store.create(2)
    mid = (await store.say(1)).mid
    assert await store.texts(1) == []
    assert await store.texts(2) == [mid]
    await store.command("change_mode", GID, 1, mode="read")
    mid = (await store.say(1)).mid
    assert await store.texts(1) == [mid]


async def test_the_cold_are_skipped_and_read_the_archive(store: Store) -> None:
    await store.create(2, 3)
    early = await say(store, 1)
    for uid in (1, 2, 3):
        assert await store.texts(uid) == early
    await Sweeper(store.redis, zombie_days=-1, window_us=WINDOW_US, roaming_us=WINDOW_US).sweep()
    await store.archive_all()
    await store.puller.pull(1, 0, 10)
    dormant = await say(store, 1)
    assert await ids_in(store.redis, 2) == []
    await store.command("change_mode", GID, 1, mode="read")
    dormant += await say(store, 1)
    await store.command("kick", GID, 1, members=[3])
    later = await say(store, 1)
    await store.archive_all()
    for limit in (1, 2, 1000):
        assert await store.texts(2, limit) == early + dormant + later
        assert await store.texts(3, limit) == early + dormant
    assert "kicked" in [control.kind for control in await store.controls(3)]


async def test_one_message_that_fails_spoils_no_other(store: Store) -> None:
    await store.create(2)
    await store.create(2, 3, gid=78)
    await break_inbox(store.redis, 3)
    answers = await asyncio.gather(
        store.say(1, 77), store.say(1, 78), store.say(1, -2), store.say(9, 77), return_exceptions=True
    )
    good, failed, private, refused = answers
    assert isinstance(good, Stored)
    assert isinstance(private, Stored)
    assert isinstance(failed, EntryFailed)
    assert isinstance(refused, ChannelRefused)
    assert await store.texts(2) == [good.mid, private.mid]
    assert await store.texts(1) == [good.mid, private.mid]


async def test_a_command_that_fails_is_undone_whole(store: Store) -> None:
    await break_inbox(store.redis, 3)
    before = await store.state()
    with pytest.raises(EntryFailed):
        await store.create(2, 3)
    assert await store.state() == before


async def test_a_busy_group_is_put_off_and_keeps_its_order(store: Store) -> None:
    """So many deliveries that one call of the script does not take them all."""
    one = Appender(store.redis, connections=1, window_us=WINDOW_US, repeat_seconds=60, outbox_limit=2**30)
    one.start()
    for first in range(2, 500, 166):
        members = uids(first, 166)
        if first == 2:
            await store.create(*members)
        else:
            await store.command("invite", GID, 1, members=members)
    await store.redis.config_resetstat()
    waiting = [one.append(Group(77), "1", f"b{n}", 0, True, b"{}") for n in range(30)]
    private = one.append(Inbox(2), "1", "p", 0, True, b"{}")
    mids = [each.mid for each in await asyncio.gather(*waiting)]
    assert mids == sorted(mids)
    assert sorted([*mids, (await private).mid]) == await store.texts(2)
    assert await store.texts(499) == mids
    calls = (await store.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert 8 <= calls <= 25
    await one.stop()


async def test_waiting_pulls_are_told(store: Store) -> None:
    messages = store.redis.messages(keys.WAKEUPS)
    assert await anext(messages) is None
    told: set[str] = set()

    async def names(*expected: str) -> None:
        async with asyncio.timeout(5):
            while not told >= set(expected):
                told.update((await anext(messages) or b"").decode().split())
        told.clear()

    await store.create(2, 3, mode="read", open=True)
    await names("1", "2", "3")
    await store.say(1)
    await names("group:77")
    await store.command("join", GID, 4)
    await names("4", "group:77")
    await store.command("change_mode", GID, 1, mode="write")
    await names("1", "2", "3", "4")
    await store.say(1)
    await names("1", "2", "3", "4")
    await store.command("kick", GID, 1, members=[2])
    await names("2", "1")
    await messages.aclose()


async def test_heads_are_found_fast_however_few_there_are(store: Store) -> None:
    await store.create(2, mode="read")
    await say(store, 1)
    assert await store.redis.object("ENCODING", keys.HEADS) == b"hashtable"


async def test_a_pull_of_many_groups_is_one_call_that_moves_little(store: Store) -> None:
    """However many channels have news, and however much."""
    groups, each, limit, payload = range(101, 141), 5, 10, b'{"body":"' + b"x" * 1000 + b'"}'
    for gid in groups:
        await store.create(2, gid=gid, mode="read")
    sent = await asyncio.gather(
        *(
            store.appender.append(Group(gid), "1", f"{number}", 0, True, payload)
            for number in range(each)
            for gid in groups
        )
    )
    cursor = min(stored.mid for stored in sent) - 1
    await store.redis.config_resetstat()
    pulled = await store.puller.pull(2, cursor, limit)
    stats = await store.redis.info("all")
    assert [message.mid for message in pulled.messages] == sorted(stored.mid for stored in sent)[:limit]
    assert pulled.more
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert stats["total_net_output_bytes"] < 3 * limit * len(payload)


@pytest.mark.parametrize("limit", [7, 128, 1000])
async def test_what_lies_in_the_inbox_and_the_channel_comes_once(store: Store, limit: int) -> None:
    """As after a change of modes and a rebuild; pages end anywhere, and some bodies are gone."""
    await store.create(2, mode="read")
    in_channel = [(await store.say(2)).mid for _ in range(140)]
    in_inbox = [(await store.say(2, -1)).mid for _ in range(5)]
    in_channel += [(await store.say(2)).mid for _ in range(140)]
    for mid in (*in_channel[::5], in_channel[-1]):
        await store.redis.zadd(keys.inbox(1, span(mid)), {str(mid): mid})
    said = sorted(in_channel + in_inbox)
    for mid in (gone := said[3::50]):
        await store.redis.hdel(keys.bodies(span(mid)), str(mid))
    pulled = [message.mid for message in await store.pull(1, 0, limit) if message.mid >= said[0]]
    assert pulled == [mid for mid in said if mid not in gone]
