"""What a server lacks that was started again or replaced it has again before it is used, or its shard is rebuilt."""

import asyncio
import time
from typing import Any

import pytest

from store.bans.bans import Bans
from store.errors import ArchiveAway, StoreAway, StoreBehind, StoreEmpty, StoreError, UserBanned
from store.groups.restore import restore_memberships
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import admit, begin_admission
from store.redis.write_bounds import ScriptBounds
from store.timelines import gates, recovery, shard_rebuild
from store.timelines.gates import GateOutcome
from store.timelines.lives import begin_life
from tests.integration.redis.linked import (
    ELSEWHERE,
    WINDOW_US,
    Store,
    copied,
    joined_and_left,
    put_back,
    start_again,
)


async def test_an_entry_of_an_earlier_life_is_refused(store: Store) -> None:
    left = await store.leave()
    await store.recovery.rebuild()
    before = await store.received()
    with pytest.raises(StoreBehind, match="another life"):
        await store.links.carry(left)
    assert await store.received() == before


async def test_a_store_of_which_nothing_is_left_has_no_life_that_was_used(store: Store) -> None:
    before = int(await store.home.hget(keys.LINKS, "life") or 0)
    await store.home.flushall()
    await store.recovery.ensure()
    assert int(await store.home.hget(keys.LINKS, "life") or 0) > before


async def test_a_store_answers_from_the_moment_on_when_it_has_an_epoch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sees by /readyz that the store is there again is not refused, in any shard."""
    stored, received = await store.say(), list[int]()
    await store.archiver.archive_all(lambda: asyncio.sleep(0))
    await store.home.flushall()
    begin = recovery._BEGIN_EPOCH.run

    async def begins(redis: RedisClient, **values: Any) -> bytes:
        epoch = await begin(redis, **values)
        if redis is store.home:
            received.extend(await store.received())
        return epoch

    monkeypatch.setattr(recovery._BEGIN_EPOCH, "run", begins)
    await store.recovery.ensure()
    assert received == [stored.mid]


async def test_who_failed_while_a_shard_was_let_in_lets_it_in_when_it_looks_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of the shard is the same, and the shard was rebuilt, but its gate is not passed."""
    await store.recovery.ensure()
    stored = await store.say()
    await put_back(store.other, {})

    async def fails(*_: Any, **__: Any) -> None:
        raise StoreAway("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(gates, "_carry", fails)
        with pytest.raises(StoreAway):
            await store.recovery.ensure()
    with pytest.raises(StoreBehind):
        await store.received()
    await store.recovery.ensure()
    assert await store.received() == [stored.mid]


async def test_a_home_that_lost_something_goes_on_where_others_stand(store: Store) -> None:
    """It is what it was before the second message, an invitation, and a third message that nobody had carried."""
    await store.make_group(7)
    kept = await store.say()
    copy = await copied(store.home)
    second = await store.say()
    await store.invite(7, ELSEWHERE)
    here = store.other.key(keys.HERE_PREFIX + b"7")
    assert await store.other.zcard(here) == 1
    left = await store.leave()
    await put_back(store.home, copy)
    assert not await begin_life(store.shards, 0)
    assert await begin_life(store.shards, 0, rebuilt=True)
    with pytest.raises(StoreBehind, match="another life"):
        await store.links.carry(left)
    fourth = await store.say()
    with pytest.raises(StoreBehind, match="another life"):
        await store.links.carry(left)
    received = await store.received()
    assert {kept.mid, second.mid, fourth.mid} < {*received}
    assert left[0].id not in received
    assert received[-1] == fourth.mid > await joined_and_left(store.other, ELSEWHERE, 7)
    assert await store.other.zcard(here) == 0


async def test_a_home_that_lost_nothing_goes_on_as_it_was(store: Store) -> None:
    first = await store.say()
    assert await begin_life(store.shards, 0)
    second = await store.say()
    assert await store.received() == [first.mid, second.mid]


async def test_a_shard_that_lost_something_has_it_again_before_it_is_used(store: Store) -> None:
    copy = await copied(store.other)
    stored = await store.say()
    await put_back(store.other, copy)
    await start_again(store.other)
    epochs = await store.epochs()
    with pytest.raises(StoreBehind):
        await store.received()
    assert await store.look_anew() == [(1, GateOutcome.LACKED)]
    assert await store.received() == [stored.mid]
    assert await store.epochs() == epochs


async def test_a_node_that_has_scripts_of_an_earlier_time_runs_none_of_them(store: Store) -> None:
    """It had the shard once, and has it again, without the newest writes of the one that had it meanwhile."""
    await store.say()
    scripts_of = store.other.resolver.admission
    copy = await copied(store.other)
    # Another node takes over, and is let in.
    await store.other.delete(store.other.key(keys.ADMITTED))
    await store.look_anew()
    stored = await store.say()
    assert store.other.resolver.admission != scripts_of != ""
    # The former one comes back, with its scripts, and what had reached it: the name of the other one.
    name = await store.other.get(store.other.key(keys.ADMISSION)) or ""
    await store.other.script_flush()
    await store.other.set(store.other.key(keys.ADMISSION), scripts_of)
    await admit(store.other)
    await put_back(store.other, copy)
    await store.other.set(store.other.key(keys.ADMISSION), name)
    await store.other.delete(store.other.key(keys.ADMITTED))
    for known in (scripts_of, store.other.resolver.admission):
        store.other.resolver.admission = str(known)
        with pytest.raises(StoreBehind):
            await store.received()
    await store.look_anew()
    assert (await store.received())[-1] == stored.mid


async def test_a_process_that_knows_an_earlier_name_writes_nothing_under_it(store: Store) -> None:
    await store.say()
    earlier = store.home.resolver.admission
    await begin_admission(store.home)
    store.home.resolver.admission = earlier
    with pytest.raises(StoreBehind):
        await store.say()
    assert len(await store.received()) == 1
    await store.look_anew()
    await store.say()


async def test_a_home_that_lost_something_is_rebuilt_and_everybody_is_told(store: Store) -> None:
    copy = await copied(store.home)
    lost = await store.say()
    await put_back(store.home, copy)
    await start_again(store.home)
    before = await store.epochs()
    with pytest.raises(StoreEmpty, match="to be rebuilt"):
        await store.look_anew()
    with pytest.raises(StoreError):
        await store.say()
    await store.look_anew()
    stored = await store.say()
    assert await store.received() == [lost.mid, stored.mid]
    assert not {*before} & {*await store.epochs()}


async def test_a_home_that_lost_nothing_tells_nobody(store: Store) -> None:
    await store.say()
    before = await store.epochs()
    await start_again(store.home)
    assert await store.look_anew() == [(0, GateOutcome.COMPLETE)]
    assert await store.epochs() == before
    await store.say()


async def test_a_shard_that_lacks_what_its_link_has_no_more_is_rebuilt(store: Store) -> None:
    copy = await copied(store.other)
    stored = await store.say()
    await store.home.delete(keys.LINK_PREFIX + b"1")
    await put_back(store.other, copy)
    await start_again(store.other)
    before = await store.epochs()
    with pytest.raises(StoreEmpty, match="to be rebuilt"):
        await store.look_anew()
    assert await store.home.sismember(keys.AWAY, "1"), "nobody waits for it until it is rebuilt"
    assert await store.look_anew() == [(1, GateOutcome.REBUILT)]
    assert not await store.home.sismember(keys.AWAY, "1")
    assert await store.received() == [stored.mid]
    assert [one == other for one, other in zip(before, await store.epochs(), strict=True)] == [True, False]


async def test_a_shard_that_cannot_be_rebuilt_holds_up_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name async for name in store.other.scan_iter(match=store.other.prefix + b"*")]:
        await store.other.delete(name)
    await store.home.script_flush()
    with pytest.raises(StoreBehind):
        await store.puller.pull(1, 0, 1000)

    async def away(*arguments: object, **more: object) -> None:
        raise ArchiveAway("the archive is away")

    monkeypatch.setattr(recovery, "rebuild_shard", away)
    with pytest.raises(ArchiveAway):
        await store.look_anew()
    await store.puller.pull(1, 0, 1000)
    monkeypatch.undo()
    assert await store.look_anew() == [(1, GateOutcome.REBUILT)]


async def test_a_home_that_fails_over_while_a_shard_is_rebuilt_is_not_kept_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name async for name in store.other.scan_iter(match=store.other.prefix + b"*")]:
        await store.other.delete(name)

    async def restored(*arguments: Any) -> None:
        await restore_memberships(*arguments)
        await start_again(store.home)

    monkeypatch.setattr(shard_rebuild, "restore_memberships", restored)
    with pytest.raises(StoreBehind, match="started again or replaced"):
        await store.look_anew()
    monkeypatch.undo()
    assert await store.look_anew() == [(0, GateOutcome.COMPLETE), (1, GateOutcome.REBUILT)]


async def test_a_life_that_somebody_did_not_begin_to_its_end_is_passed_over(store: Store) -> None:
    """Their clock was an hour ahead."""
    ahead = (time.time_ns() // 1_000_000) + 3_600_000
    await store.other.hset(store.other.key(keys.APPLIED), "life", ahead)
    await start_again(store.home)
    await store.look_anew()
    assert int(await store.home.hget(keys.LINKS, "life") or 0) > ahead
    stored = await store.say()
    assert await store.received() == [stored.mid]


async def test_one_shard_is_rebuilt_while_the_others_go_on(store: Store) -> None:
    """What it had comes from the archive, and what was written meanwhile by its link."""
    await store.make_group(7)
    await store.invite(7, ELSEWHERE)
    bounds: ScriptBounds = {"window_us": WINDOW_US, "repeat_seconds": 60, "outbox_limit": 2**30, "links": store.links}
    bans = Bans(store.home, store.writing, **bounds)
    await bans.put(ELSEWHERE, 3600, "spam")
    first = await store.say()
    for name in [name async for name in store.other.scan_iter(match=store.other.prefix + b"*")]:
        await store.other.delete(name)
    before = await store.epochs()
    with pytest.raises(StoreEmpty):
        await store.say(client_id="meanwhile")
    assert not (await store.puller.pull(1, 0, 1000)).reset
    await store.look_anew()
    stored = await store.say(client_id="meanwhile")
    assert stored.repeated
    with pytest.raises(UserBanned):
        await store.received()
    await bans.end(ELSEWHERE)
    received = await store.received()
    assert received[-1] == stored.mid
    assert first.mid in received
    assert len(received) == len({*received})
    assert await store.other.zrange(store.other.key(keys.HERE_PREFIX + b"7"), 0, -1) == [b"%d" % ELSEWHERE]
    after = await store.epochs()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


async def test_each_shard_has_an_epoch_of_its_own(store: Store) -> None:
    """Cursors of users belong to that of their shard."""
    epochs = await store.epochs()
    assert len({*epochs}) == 2
    for uid, epoch in zip((1, ELSEWHERE), epochs, strict=True):
        assert (await store.puller.pull(uid, 0, 1)).epoch.encode() == epoch
