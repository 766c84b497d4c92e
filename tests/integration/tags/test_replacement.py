"""A new set of profile holders: all of it takes effect at one id, or nothing does."""

import asyncio
import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from store.addresses import Tag
from store.errors import ArchiveAway, ChannelRefused, EntryFailed, OutboxFull, StoreAway
from store.groups.groups import Limits
from store.redis import keys
from store.redis.carrier import LinkEntry
from store.redis.scripts import Script
from store.tags.holdings import FOLLOW, MANUAL, PROFILE
from store.tags.replacement import Propagator, Replacement
from store.tags.script import PROPAGATED, PropagateReply
from store.timelines import shard_rebuild
from store.timelines.replacements import OPERATOR
from store.workers import Worker
from tests.integration.tags.conftest import TAG, Store, user
from tests.servers import RedisServer

ONE_SHARD = pytest.mark.parametrize("place", [("redis", 1), ("valkey", 1)], indirect=True)
THREE_SHARDS = pytest.mark.parametrize("place", [("redis", 3), ("valkey", 3), ("cluster", 3)], indirect=True)


async def holders(store: Store, count: int, tag: str = TAG) -> list[int]:
    return [uid for uid in range(1, count + 1) if await store.holds(uid, tag)]


async def test_redis_dies_while_it_is_propagated(own_redis: RedisServer, tmp_path: Path, limits: Limits) -> None:
    store = Store(own_redis.url, tmp_path, limits)
    await store.start()
    await store.tags.put(TAG, title="", followable=False)
    await store.load(*range(1, 2001))
    await store.propagate()
    before = await store.tell()
    await store.load(*range(1001, 3001))
    after = await store.tell()
    more, deaths = True, 0
    async with asyncio.timeout(120):
        while more:
            try:
                await store.recovery.ensure()
                more = (await store.tags.propagate_step(TAG)).more
            except StoreAway:
                continue
            if more:
                own_redis.kill()
                own_redis.start()
                deaths += 1
    assert deaths > 2
    for uid in (1, 1000, 1001, 2000, 2001, 3000):
        assert await store.told(uid) == ([before] if uid <= 2000 else []) + ([after] if uid > 1000 else [])
    info = await store.holdings.info(TAG)
    assert info
    assert info.holders == 2000
    await store.archive_all()
    rows = await store.archive.tags.holders(TAG, (0, 0), 10_000)
    assert sum(not row.left for row in rows) == 2000
    await store.stop()


@pytest.mark.parametrize("steps", [0, 1, None])
async def test_all_at_one_id(store: Store, steps: int | None) -> None:
    """Whether users' maps have followed or not, pulls, questions and lists say the same."""
    await store.tags.put(TAG, title="", followable=False)
    await store.give(5)
    await store.load(*range(1, 1200))
    await store.propagate()
    before = await store.tell()
    at = await store.load(*range(600, 1800), 600, 601)
    after = await store.tell()
    for _ in range(100 if steps is None else steps):
        await store.tags.propagate_step(TAG)
    assert await store.propagating() == (steps is not None)
    assert before < at < after
    expected = {1: [before], 5: [before, after], 599: [before], 600: [before, after], 1199: [before, after]}
    expected |= {1200: [after], 1799: [after], 1800: []}
    for uid, mids in expected.items():
        assert await store.told(uid) == mids
        assert await store.holds(uid) == (after in mids)
        assert await store.held(uid) == ([TAG] if after in mids else [])
    await store.archive_all()
    for uid, mids in expected.items():
        assert [each.mid for each in await store.roamed(uid)] == mids
    await store.propagate()
    assert not await store.propagating()
    for uid, mids in expected.items():
        assert await store.told(uid) == mids
    info = await store.holdings.info(TAG)
    assert info
    assert info.holders == 1201
    assert await store.left_of(b"t[lprsw]:*") == []


async def test_what_changes_while_it_is_propagated_counts(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=True)
    await store.load(1, 2, 3, 4)
    await store.propagate()
    at = await store.load(3, 4, 5, 6)
    await store.give(1)
    await store.take(3, source=PROFILE)
    await store.give(2, source=PROFILE)
    await store.take(5, source=PROFILE)
    await store.follow(5, "f")
    await store.propagate()
    assert await holders(store, 7) == [1, 2, 4, 5, 6]
    seen = await store.tell()
    for uid in range(1, 8):
        assert await store.told(uid) == ([seen] if uid in (1, 2, 4, 5, 6) else [])
    await store.archive_all()
    rows = await store.archive.tags.holders(TAG, (0, 0), 100)
    lasting = {row.uid: row.sources for row in rows if not row.left}
    assert lasting == {user(uid): by for uid, by in {1: 1, 2: 2, 4: 2, 5: 4, 6: 2}.items()}
    assert {row.uid for row in rows if row.left == at} == {user(1), user(2)}
    info = await store.holdings.info(TAG)
    assert info
    assert info.holders == 5


async def test_the_next_one_waits_for_the_first(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=False)
    for new in ([1, 2], [2, 3], [], [4]):
        await store.load(*new)
        assert await holders(store, 4) == new
    await store.tags.delete(TAG)
    await store.propagate()
    assert await holders(store, 4) == []


async def test_what_is_left_of_it_is_told(store: Store) -> None:
    async def left() -> int:
        info = await store.holdings.info(TAG)
        assert info is not None
        assert info.propagating or info.left == 0
        return info.left

    await store.tags.put(TAG, title="", followable=False)
    many = store.shards.count
    await store.load(*range(1, 1200 * many + 1))
    assert await left() == 1200 * many
    await store.propagate()
    assert await left() == 0
    # Those who hold it now are looked at, and those who did.
    await store.load(*range(1000 * many + 1, 1900 * many + 1))
    told = [await left()]
    assert told == [(900 + 1200) * many]
    while (await store.tags.propagate_step(TAG)).more:
        told.append(await left())
    assert len(told) > 3
    assert told == sorted(told, reverse=True)
    assert await left() == 0


async def test_a_broken_upload_changes_nothing(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=False)
    await store.give(1, source=PROFILE)
    before = await store.state()
    async with Replacement(store.shards, store.tags, TAG) as new:
        await new.add(map(user, range(2, 3000)))
    assert await store.state() == before
    async with Replacement(store.shards, store.tags, "unknown") as new:
        await new.add(map(user, range(2, 3000)))
        with pytest.raises(ChannelRefused, match="unknown_tag"):
            await new.take_effect()
    async with Replacement(store.shards, store.tags, TAG) as new:
        await new.add(map(user, range(2, 3000)))
        staged = await store.left_of(b"ts:*")
        assert len(staged) == store.shards.count
        for redis, key in staged:
            assert 0 < await redis.ttl(key) <= 3600
        redis, key = staged[-1]
        await redis.delete(key)
        with pytest.raises(EntryFailed):
            await new.take_effect()
    assert await store.state() == before


@ONE_SHARD
async def test_the_outbox_gets_a_thousand_in_one(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=False)
    await store.archive_all()
    await store.load(*range(1, 10_001))
    await store.propagate()
    assert await store.redis.xlen(keys.OUTBOX) <= 10
    assert int(await store.redis.get(keys.OUTBOX_BYTES) or 0) < 10_000 * 60
    await store.archive_all()
    before = await store.redis.xlen(keys.OUTBOX)
    await store.load(*range(1, 10_001))
    await store.propagate()
    assert await store.redis.xlen(keys.OUTBOX) == before


@ONE_SHARD
async def test_propagation_leaves_half_of_the_outbox_to_messages(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=False)
    await store.load(*range(1, 3001))
    await store.tell()
    half = int(await store.redis.get(keys.OUTBOX_BYTES) or 0)
    tags = store.new_tags(2 * half)
    with pytest.raises(OutboxFull):
        await tags.propagate_step(TAG)
    await tags.put("other", title="", followable=False)
    assert (await tags.change("other", MANUAL, add=[1])).added == 1
    await store.archive_all()
    assert (await tags.propagate_step(TAG)).changed > 0


async def test_only_who_is_online_is_told(store: Store) -> None:
    await store.tags.put(TAG, title="", followable=False)
    await store.load(*range(1, 501))
    await store.propagate()
    for uid in (10, 700):
        redis = store.shards.of(user(uid))
        await redis.hset(redis.key(keys.DEVICES_PREFIX) + b"%d" % user(uid), f"{uid}-phone", "1")
    assert await store.changes() == []
    await store.load(*range(501, 1001))
    await store.propagate()
    topic = f"business/tag_{TAG}"
    assert sorted(await store.changes()) == [(user(10), topic, False), (user(700), topic, True)]


async def test_the_propagator_works_until_all_is_propagated(store: Store) -> None:
    for tag in (TAG, "b"):
        await store.tags.put(tag, title="", followable=False)
        await store.load(*range(1, 3000), tag=tag)
    stop = asyncio.Event()
    propagators = [
        asyncio.create_task(Propagator(store.redis, store.tags).run(Worker("propagator", stop))) for _ in range(2)
    ]
    async with asyncio.timeout(60):
        while await store.propagating():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*propagators)
    assert await store.redis.exists(keys.PROPAGATE_LOCK) == 0
    for tag in (TAG, "b"):
        info = await store.holdings.info(tag)
        assert info
        assert info.holders == 2999


@THREE_SHARDS
async def test_what_a_shard_has_propagated_is_told_by_whoever_comes_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process ends before the home hears of a step: the next one hears the same of the shard again."""
    await store.tags.put(TAG, title="", followable=False)
    await store.load(*range(1, 1500))
    steps = 0
    run = Script.run

    async def dying(script: Script[Any], *arguments: Any, **values: Any) -> Any:
        if script is PROPAGATED and steps % 3 == 1:
            raise StoreAway("it died")
        return await run(script, *arguments, **values)

    monkeypatch.setattr(Script, "run", dying)
    tags = store.new_tags()
    while await store.propagating():
        steps += 1
        try:
            await tags.propagate_step(TAG)
        except StoreAway:
            tags = store.new_tags()
    assert steps > 4
    await store.archive_all()
    rows = await store.archive.tags.holders(TAG, (0, 0), 10_000)
    assert {row.uid for row in rows if not row.left and row.sources == 2} == {user(uid) for uid in range(1, 1500)}
    assert await store.left_of(b"t[lprsw]:*") == []
    info = await store.holdings.info(TAG)
    assert info
    assert (info.holders, info.sources[PROFILE]) == (1499, 1499)


@THREE_SHARDS
async def test_who_loses_a_tag_does_so_though_their_shard_is_emptied(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new holders of that shard are lost with it, and have to be uploaded again; its first rebuild breaks off."""
    await store.tags.put(TAG, title="", followable=False)
    await store.load(*range(1, 50))
    await store.propagate()
    await store.archive_all()
    await store.load(*range(40, 100))
    emptied = store.shards[1]
    for name in [name async for name in emptied.scan_iter(match=emptied.prefix + b"*")]:
        await emptied.delete(name)

    async def away(*arguments: object, **more: object) -> None:
        raise ArchiveAway("the archive is away")

    monkeypatch.setattr(shard_rebuild, "restore_holders", away)
    with pytest.raises(ArchiveAway):
        await store.recovery.ensure()
    monkeypatch.undo()
    await store.recovery.ensure()
    await store.propagate()
    assert not await store.propagating()
    after = await store.tell()
    for uid in range(1, 100):
        there = store.shards.number(user(uid)) == 1
        assert await store.told(uid) == ([after] if uid >= 40 and not there else []), uid


@THREE_SHARDS
async def test_a_home_that_lost_that_it_is_over_hears_it_again(store: Store) -> None:
    """A replica takes over from the home that lacks what it was told last."""
    await store.tags.put(TAG, title="", followable=False)
    at = await store.load(*range(1, 100))
    before = {name: await store.redis.dump(name) for name in (keys.tag(TAG), keys.parts(TAG), keys.PROPAGATING)}
    await store.propagate()
    assert not await store.propagating()
    for name, dump in before.items():
        await store.redis.restore(name, 0, dump or b"", replace=True)
    assert await store.redis.hget(keys.PROPAGATING, TAG) == b"%d" % at
    # It is over in the others, but not in the home.
    await store.redis.srem(keys.parts(TAG), "0")
    await store.propagate()
    assert not await store.propagating()
    assert await store.load(*range(50, 150)) > at


@THREE_SHARDS
async def test_a_rebuild_goes_on_with_what_was_on_the_links(store: Store) -> None:
    """Nobody has carried a change of very many when all is rebuilt."""
    await store.tags.put(TAG, title="", followable=False)
    await store.load(*range(1, 100))
    await store.propagate()
    before = await store.tell()
    carry, store.links.carry = store.links.carry, _away  # type: ignore[method-assign]
    with pytest.raises(StoreAway):
        await store.load(*range(50, 150))
    store.links.carry = carry  # type: ignore[method-assign]
    await store.recovery.rebuild()
    after = await store.tell()
    for _ in range(2):
        for uid in range(1, 150, 7):
            assert await store.told(uid) == ([before] if uid < 100 else []) + ([after] if uid >= 50 else [])
        await store.propagate()
    assert not await store.propagating()
    assert await store.left_of(b"t[lprsw]:*") == []


async def _away(entries: Iterable[LinkEntry]) -> None:
    raise StoreAway("it died")


CHANGES = (
    *("give", "take", "replace", "follow", "unfollow", "delete", "lose"),
    *("propagate", "second", "tell", "tell", "recall"),
)
"""A `second` passes for channels that many pull from."""


@pytest.mark.parametrize("seed", range(6))
async def test_any_changes_against_a_model(store: Store, seed: int) -> None:
    """Holders by source, and what each user sees, whatever happens while it is propagated, and after a loss."""
    chance = random.Random(seed)
    users, tags = range(1, 13), (TAG, "b")
    model: dict[str, dict[str, set[int]]] = {}
    seen: dict[tuple[str, int], list[int]] = {(tag, uid): [] for tag in tags for uid in users}
    commands = itertools.count()
    sent: dict[str, list[int]] = {tag: [] for tag in tags}
    recalled: dict[int, int] = {}
    """By message, the id of its recall; those of recalls too, with 0."""
    for _ in range(120):
        tag, source = chance.choice(tags), chance.choice((MANUAL, PROFILE))
        some = chance.sample(users, chance.randrange(1, 5))
        uid = some[0]
        if tag not in model:
            await store.tags.put(tag, title="", followable=True)
            model[tag] = {each: set() for each in (MANUAL, PROFILE, FOLLOW)}
            continue
        match chance.choice(CHANGES):
            case "give":
                await store.give(*some, tag=tag, source=source)
                model[tag][source] |= set(some)
            case "take":
                await store.take(*some, tag=tag, source=source)
                model[tag][source] -= set(some)
            case "replace":
                await store.load(*some, tag=tag)
                model[tag][PROFILE] = set(some)
            case "follow":
                await store.follow(uid, f"c{next(commands)}", tag=tag)
                model[tag][FOLLOW].add(uid)
            case "unfollow":
                await store.unfollow(uid, f"c{next(commands)}", tag=tag)
                model[tag][FOLLOW].discard(uid)
            case "second":
                await store.hot.step()
            case "propagate":
                assert isinstance(await store.tags.propagate_step(tag), PropagateReply)
            case "tell":
                mid = await store.tell(tag)
                sent[tag].append(mid)
                for holder in set.union(*model[tag].values()):
                    seen[tag, holder].append(mid)
            case "recall" if said := [mid for mid in sent[tag] if recalled.get(mid) is None]:
                mid = chance.choice(said)
                done = await store.replace("recall", Tag(tag), mid, OPERATOR)
                recalled[mid], recalled[done.id] = done.id, 0
                for holder in set.union(*model[tag].values()):
                    seen[tag, holder].append(done.id)
            case "delete" if chance.random() < 0.3:
                await store.tags.delete(tag)
                del model[tag]
            case "lose" if chance.random() < 0.5:
                for name in tags:
                    await store.propagate(name)
                await store.archive_all()
                await store.flush()
                await store.recovery.ensure()
        asked = chance.choice(users)
        listed = {holding.tag: set(holding.sources) for holding in await store.holdings.of_user(user(asked))}
        for name in tags:
            by_source = {source for source, held in model.get(name, {}).items() if asked in held}
            assert await store.holds(asked, name) == bool(by_source)
            told = [each for each in await store.pull(user(asked)) if each.topic == Tag(name).topic]
            assert [each.mid for each in told] == seen[name, asked]
            assert [each.replaced for each in told] == [recalled.get(each.mid, 0) for each in told]
            assert listed.get(name, set()) == by_source
    for name in tags:
        await store.propagate(name)
        info = await store.holdings.info(name)
        assert (info.holders if info else None) == (len(set.union(*model[name].values())) if name in model else None)
    await store.archive_all()
    for uid in users:
        rows = await store.roamed(uid)
        for name in tags:
            assert [each.mid for each in rows if each.topic == f"business/tag_{name}"] == seen[name, uid]
