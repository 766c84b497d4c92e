"""Read marks, settings and blocks at the store: what changes, who is told, what a pull gives, and what limits them."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hooks.api.pull import render
from store.addresses import GLOBAL, Address, Group, Inbox, Tag
from store.archive.archive import Archive, open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.errors import ChannelRefused, SenderOverBudget
from store.operations.dead_letters import DeadLetters
from store.redis import keys
from store.redis.budget import Budget
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.shards import connect_each, resolvers
from store.states import states as module
from store.states.states import MAX_SETTINGS, StateChange, States
from store.timelines.append import Appender
from store.timelines.pull import MAX_BYTES, Pulled, Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.summary import Timelines
from store.timelines.sweep import Sweeper
from tests.servers import RedisServer

WINDOW_US = 7 * 86_400_000_000
ANN, BEN, CAT, DAN, EVE, FAY, GUS, HAL, IDA = 10_000, 20_000, 1, 2, 10_001, 20_001, 3, 10_002, 20_002
"""Each of three shards has three of them: the home CAT, DAN and GUS."""


class Store:
    def __init__(self, server: RedisServer, archive: Archive, count: int) -> None:
        """count: of shards."""
        nodes = resolvers(server.url, count)
        self.shards = connect_each(nodes)
        self.redis = self.shards.home
        self.archive = archive
        self.outbox = Outbox(self.redis)
        self.archiver = Archiver(self.outbox, handlers(archive), DeadLetters(self.redis))
        self.recovery = self.new_recovery()
        self.links = Links(self.shards, window_us=WINDOW_US)
        self.bounds: dict[str, Any] = {"window_us": WINDOW_US, "repeat_seconds": 3600, "outbox_limit": 2**30}
        self.bounds["links"] = self.links
        self.appender = Appender(self.shards, **self.bounds)
        self.writing = connect(nodes.home, single=True)
        self.states = self.new_states()
        self._ids = itertools.count()

    def new_states(self, **given: Any) -> States:
        return States(self.writing, self.archive, shards=self.shards, **{**self.bounds, **given})

    def new_recovery(self) -> StoreRecovery:
        return StoreRecovery(self.shards, self.archive, self.archiver, window_us=WINDOW_US, sync_sender=True)

    def puller(self, window_us: int = WINDOW_US, roaming_us: int = WINDOW_US) -> Puller:
        return Puller(self.shards, self.archive, self.outbox, window_us=window_us, roaming_us=roaming_us)

    def command(self, **given: Any) -> dict[str, Any]:
        return {"command_id": f"c{next(self._ids)}", **given}

    async def send(self, to: Address, sender: int) -> int:
        return (await self.appender.append(to, str(sender), f"m{next(self._ids)}", 0, True, b"{}")).mid

    async def set(self, uid: int, key: str, value: Any, **given: Any) -> StateChange:
        return await self.states.set(uid, key, value, **self.command(**given))

    async def block(self, uid: int, peer: int, *, on: bool = True, **given: Any) -> StateChange:
        return await self.states.block(uid, peer, on=on, **self.command(**given))

    async def read(self, uid: int, to: Address, mid: int, **given: Any) -> StateChange:
        return await self.states.read(uid, to, mid, **self.command(**given))

    async def pull(self, uid: int, cursor: int = 0, limit: int = 1000) -> Pulled:
        return await self.puller().pull(uid, cursor, limit)

    async def of(self, uid: int, cursor: int = 0) -> list[dict[str, Any]]:
        """The user's states as clients get them, but for their ids."""
        found = (await self.pull(uid, cursor)).states
        as_json = orjson.loads(orjson.dumps([state.fields() for state in found]))
        return [{name: value for name, value in state.items() if name != "at"} for state in as_json]

    async def keep(self, window_us: int) -> None:
        for redis in self.shards:
            await redis.set(redis.key(keys.WINDOW), window_us)

    async def archive_all(self) -> None:
        while await self.outbox.length():
            await self.archiver.step()


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
async def store(
    request: pytest.FixtureRequest, redis: RedisClient, redis_server: RedisServer, tmp_path: Path
) -> AsyncIterator[Store]:
    archive = open_archive(f"sqlite:///{tmp_path}/im.db")
    await archive.migrate()
    made = Store(redis_server, archive, request.param)
    await made.recovery.ensure()
    for uid in (ANN, BEN, CAT, DAN, EVE, FAY, GUS, HAL, IDA):
        client = made.shards.of(uid)
        await client.zadd(client.key(keys.SEEN), {str(uid): time.time_ns() // 1_000_000})
    made.appender.start()
    yield made
    await made.appender.stop()
    await made.links.aclose()
    for client in (made.writing, *made.shards):
        await client.aclose()
    await archive.close()


async def test_the_newest_of_each_counts(store: Store) -> None:
    first = await store.set(ANN, "pins", [1, 2])
    await store.block(ANN, GUS)
    second = await store.set(ANN, "pins", {"a": "b"})
    pulled = await store.pull(ANN)
    block, setting = [state.fields() for state in pulled.states]
    assert {**block, "at": 0} == {"kind": "block", "uid": str(GUS), "on": True, "at": 0}
    assert first.id < block["at"] < setting["at"] == second.id <= pulled.last_id
    assert (setting["kind"], setting["key"]) == ("setting", "pins")
    assert (await store.pull(ANN, pulled.last_id)).states == []
    assert [state.mid for state in (await store.pull(ANN, block["at"])).states] == [second.id]
    assert (await store.pull(BEN)).states == []


async def test_what_is_gone_is_told(store: Store) -> None:
    await store.set(ANN, "pins", 1)
    await store.block(ANN, GUS)
    cursor = (await store.pull(ANN)).last_id
    await store.set(ANN, "pins", None)
    await store.block(ANN, GUS, on=False)
    gone = [{"kind": "setting", "key": "pins", "value": None}, {"kind": "block", "uid": str(GUS), "on": False}]
    assert await store.of(ANN, cursor) == gone
    assert await store.redis.exists(keys.BLOCKS_PREFIX, keys.BLOCKS_PREFIX + b"%d" % ANN) == 0


async def test_what_changes_nothing_has_the_id_of_the_last_change(store: Store) -> None:
    assert await store.set(ANN, "pins", None) == StateChange(0, ())
    assert await store.block(ANN, GUS, on=False) == StateChange(0, ())
    done = await store.set(ANN, "pins", [1])
    assert await store.set(ANN, "pins", [1]) == StateChange(done.id, ())
    mid = await store.send(Inbox(ANN), BEN)
    read = await store.read(ANN, Inbox(BEN), mid)
    assert await store.read(ANN, Inbox(BEN), mid - 1) == StateChange(read.id, ()), "the highest mark stays"
    assert await store.read(ANN, Inbox(BEN), mid) == StateChange(read.id, ())


async def test_a_repeat_is_answered_as_the_first(store: Store) -> None:
    first = await store.states.set(ANN, "a", 1, command_id="same")
    await store.set(ANN, "a", 2)
    assert await store.states.set(ANN, "a", 1, command_id="same") == StateChange(first.id, ())
    assert await store.of(ANN) == [{"kind": "setting", "key": "a", "value": 2}]


async def test_a_mark_above_the_clock_is_refused(store: Store) -> None:
    mid = await store.send(Inbox(ANN), BEN)
    for above in (mid + 10_000_000, 2**53 - 1):
        with pytest.raises(ChannelRefused, match="bad_mid"):
            await store.read(ANN, Inbox(BEN), above)
    assert await store.of(ANN) == []


async def test_marks_are_for_what_there_is_and_what_the_user_sees(store: Store) -> None:
    mid = await store.send(Inbox(ANN), BEN)
    await store.redis.hset(keys.group(5), mapping={"made": "1", "mode": "write"})
    await store.redis.hset(keys.tag("news"), mapping={"made": "1"})
    for to, code in ((Group(4), "unknown_group"), (Group(5), "not_a_member"), (Tag("none"), "unknown_tag")):
        with pytest.raises(ChannelRefused, match=code):
            await store.read(ANN, to, mid)
    client = store.shards.of(ANN)
    await client.hset(client.key(keys.channel_map(ANN)), mapping={"group:5": "1:2"})
    for each in (Group(5), Tag("news"), GLOBAL, Inbox(ANN)):
        done = await store.read(ANN, each, mid)
        assert [uid for uid, _ in done.changed] == [ANN], "nobody else is told"
    topics = ["group/5", "business/tag_news", "business/global", f"single/{ANN}"]
    assert await store.of(ANN) == [{"kind": "read", "topic": topic, "mid": mid} for topic in topics]


async def test_the_peer_is_told_who_wrote_to_the_reader(store: Store) -> None:
    mid = await store.send(Inbox(ANN), BEN)
    done = await store.read(ANN, Inbox(BEN), mid)
    assert [uid for uid, _ in done.changed] == [ANN, BEN]
    told = [{"kind": "read", "topic": f"single/{ANN}", "by": str(ANN), "mid": mid}]
    assert await store.of(BEN) == told
    mine = await store.send(Inbox(BEN), ANN)
    assert len((await store.read(ANN, Inbox(BEN), mine)).changed) == 2, "the reader's own answer counts as read, too"
    await store.send(Inbox(CAT), ANN)
    later = (await store.pull(ANN)).last_id
    assert len((await store.read(ANN, Inbox(CAT), later)).changed) == 1, "they have sent nothing"
    assert await store.of(CAT) == []


async def test_no_receipts_between_those_of_whom_one_blocks_the_other(store: Store) -> None:
    await store.block(ANN, BEN)
    mid = await store.send(Inbox(BEN), ANN)
    assert len((await store.read(BEN, Inbox(ANN), mid)).changed) == 1
    mid = await store.send(Inbox(ANN), CAT)
    await store.block(CAT, ANN)
    assert len((await store.read(ANN, Inbox(CAT), mid)).changed) == 1


async def test_no_receipts_where_they_are_turned_off(store: Store) -> None:
    states = store.new_states(receipts=False)
    mid = await store.send(Inbox(ANN), BEN)
    assert len((await states.read(ANN, Inbox(BEN), mid, command_id="r")).changed) == 1
    assert await store.of(BEN) == []


async def test_what_is_only_in_the_archive_is_receipted(store: Store) -> None:
    mid, other = await store.send(Inbox(ANN), BEN), await store.send(Inbox(ANN), CAT)
    await store.archive_all()
    for redis in store.shards:
        async for key in redis.scan_iter(match=redis.key(keys.BODIES_PREFIX) + b"*"):
            await redis.delete(key)
    assert len((await store.read(ANN, Inbox(BEN), mid)).changed) == 2
    assert len((await store.read(ANN, Inbox(DAN), other)).changed) == 1


async def test_who_is_blocked_cannot_write(store: Store) -> None:
    first = await store.send(Inbox(ANN), BEN)
    await store.block(ANN, BEN)
    with pytest.raises(ChannelRefused, match="blocked"):
        await store.send(Inbox(ANN), BEN)
    again = await store.appender.append(Inbox(ANN), str(BEN), "m0", 0, True, b"{}")
    assert (again.mid, again.repeated) == (first, True), "a repeat is the message that was there before"
    assert await store.send(Inbox(BEN), ANN), "the other way is open"
    assert await store.send(Inbox(ANN), CAT)
    assert (await store.appender.append(Inbox(ANN), "0", "s", 0, True, b"{}")).mid, "the service is not asked"
    await store.block(ANN, BEN, on=False)
    assert await store.send(Inbox(ANN), BEN)


async def test_the_block_holds_for_a_batch_and_for_those_whose_account_is_judged(store: Store) -> None:
    await store.block(ANN, BEN)
    budget = Budget(1 << 30, 1 << 20)
    appender = Appender(store.shards, **store.bounds, budget=budget)
    appender.start()
    now = time.time_ns() // 1_000_000
    sends = [appender.append(Inbox(ANN), str(uid), f"x{uid}", now, True, b"{}") for uid in (BEN, CAT, BEN, DAN)]
    outcomes = [await _outcome(each) for each in sends]
    assert outcomes == ["blocked", "", "blocked", ""]
    await appender.stop()


async def _outcome(send: Any) -> str:
    try:
        await send
    except ChannelRefused as refusal:
        return refusal.code
    return ""


async def test_settings_are_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SETTINGS", 3)
    for key in "abc":
        await store.set(ANN, key, 1)
    with pytest.raises(ChannelRefused, match="setting_limit"):
        await store.set(ANN, "d", 1)
    await store.set(ANN, "a", 2)
    await store.set(ANN, "a", None)
    await store.set(ANN, "d", 1)
    with pytest.raises(ChannelRefused, match="setting_limit"):
        await store.set(ANN, "a", 1)
    assert len(await store.of(ANN)) == 4


async def test_deleted_settings_make_room_once_they_are_older_than_the_window(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SETTINGS", 2)
    for key in "ab":
        await store.set(ANN, key, 1)
        await store.set(ANN, key, None)
    with pytest.raises(ChannelRefused, match="setting_limit"):
        await store.set(ANN, "c", 1)
    await store.keep(-120_000_000)
    later = store.new_states(window_us=-120_000_000)
    await later.set(ANN, "c", 1, command_id="c")
    await store.keep(WINDOW_US)
    assert await store.of(ANN) == [{"kind": "setting", "key": "c", "value": 1}]


async def test_blocks_are_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BLOCKS", 2)
    await store.block(ANN, GUS)
    await store.block(ANN, HAL)
    with pytest.raises(ChannelRefused, match="block_limit"):
        await store.block(ANN, IDA)
    await store.block(ANN, GUS, on=False)
    await store.block(ANN, IDA)


async def test_the_oldest_marks_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MARKS", 3)
    mid = await store.send(Inbox(ANN), BEN)
    await store.set(ANN, "a", 1)
    for uid in (CAT, DAN, EVE, FAY, CAT):
        await store.read(ANN, Inbox(uid), mid)
    marks = [each["topic"] for each in await store.of(ANN) if each["kind"] == "read"]
    assert marks == [f"single/{EVE}", f"single/{FAY}", f"single/{CAT}"]
    await store.archive_all()
    rows = await store.archive.states.states((0, b""), 100)
    assert [row.name for row in rows] == [*(b"r:single/%d" % uid for uid in (CAT, EVE, FAY)), b"s:a"]


async def test_a_command_costs_its_sender(store: Store) -> None:
    now = time.time_ns() // 1_000_000
    budget = Budget(1000, 2)
    states = store.new_states(budget=budget)
    for number in range(2):
        await states.set(ANN, "a", number, command_id=f"{number}", received_at=now)
    with pytest.raises(SenderOverBudget):
        await states.set(ANN, "a", 5, command_id="5", received_at=now)
    assert await store.of(ANN) == [{"kind": "setting", "key": "a", "value": 1}]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_newer_ones_count_with_messages(store: Store, limit: int) -> None:
    wanted: list[int] = []
    for number in range(4):
        wanted += [await store.send(Inbox(ANN), BEN), (await store.set(ANN, f"{number}", number)).id]
    cursor, found = wanted[0] - 1, list[int]()
    while True:
        pulled = await store.pull(ANN, cursor, limit)
        ids = sorted([*(each.mid for each in pulled.messages), *(each.mid for each in pulled.states)])
        assert len(ids) <= limit
        assert pulled.last_id >= max(ids, default=0)
        found, cursor = found + ids, pulled.last_id
        if not pulled.more:
            break
    assert found == wanted


async def test_those_of_before_the_window_come_whole(store: Store) -> None:
    for number in range(30):
        await store.set(ANN, f"{number}", number)
    first = await store.send(Inbox(ANN), BEN)
    moment = time.time_ns() // 1000 - first
    await store.set(ANN, "new", 1)
    await store.send(Inbox(ANN), BEN)
    puller = store.puller(window_us=moment, roaming_us=moment)
    pulled = await puller.pull(ANN, 0, 1)
    edge = pulled.last_id
    assert len(pulled.states) >= 30, "in one answer, whatever its limit"
    assert pulled.truncated is False
    rest = await store.pull(ANN, edge)
    assert len(pulled.states) + len(rest.states) == 31


async def test_roaming_gives_them_with_the_messages_of_their_time(store: Store) -> None:
    ids = []
    for number in range(5):
        ids.append(await store.send(Inbox(ANN), BEN))
        await store.set(ANN, f"{number}", number)
    await store.archive_all()
    puller = store.puller(window_us=1, roaming_us=WINDOW_US)
    cursor, given = 0, list[int]()
    for _ in range(20):
        pulled = await puller.pull(ANN, cursor, 1)
        assert all(cursor < state.mid <= pulled.last_id for state in pulled.states)
        given += [state.mid for state in pulled.states]
        cursor = pulled.last_id
        if not pulled.more:
            break
    assert len(given) == 5
    assert sorted(set(given)) == given


async def test_an_answer_is_cut_by_bytes(store: Store) -> None:
    changes = [store.set(ANN, f"{number}", "x" * 2046) for number in range(MAX_SETTINGS)]
    await asyncio.gather(*changes)
    cursor, found = (await store.pull(BEN)).last_id - 10**9, list[bytes]()
    first = await store.pull(ANN, cursor)
    answer = render(first, "key")
    assert first.more
    assert MAX_BYTES * 0.9 < len(answer) <= MAX_BYTES + 200
    second = await store.pull(ANN, first.last_id)
    found = [state.name for state in (*first.states, *second.states)]
    assert len({*found}) == len(found) == MAX_SETTINGS


async def test_a_rebuild_puts_them_back(store: Store) -> None:
    mid = await store.send(Inbox(ANN), BEN)
    await store.set(ANN, "a\nb", {"c": 1})
    await store.set(ANN, "gone", 1)
    await store.set(ANN, "gone", None)
    await store.read(ANN, Inbox(BEN), mid)
    await store.block(ANN, BEN)
    before = {uid: (await store.pull(uid)).states for uid in (ANN, BEN)}
    highest = store.states.highest_id
    await store.archive_all()
    await store.redis.flushall()
    await store.recovery.ensure(highest)
    for uid, states in before.items():
        assert (await store.pull(uid)).states == states
    with pytest.raises(ChannelRefused, match="blocked"):
        await store.send(Inbox(ANN), BEN)
    await store.recovery.rebuild()
    assert (await store.pull(ANN)).states == before[ANN]
    client = store.shards.of(ANN)
    counts = await client.hmget(client.key(keys.state_values(ANN)), ["#r", "#s", "#s-", "#b"])
    assert [int(count or 0) for count in counts] == [1, 1, 1, 1]


async def test_a_redis_that_lacks_the_newest_change_is_rebuilt(store: Store) -> None:
    await store.set(ANN, "a", 1)
    await store.archive_all()
    epoch = await store.recovery.ensure()
    client = store.shards.of(ANN)
    lost = (keys.state_head(ANN), keys.state_names(ANN), keys.state_values(ANN))
    await client.delete(*map(client.key, lost))
    again = store.new_recovery()
    assert await again.ensure() != epoch
    assert await store.of(ANN) == [{"kind": "setting", "key": "a", "value": 1}]


async def test_dormant_users_keep_them(store: Store) -> None:
    await store.set(ANN, "a", 1)
    await Sweeper(store.shards, zombie_days=-1, window_us=WINDOW_US, roaming_us=WINDOW_US).sweep()
    done = await store.set(ANN, "b", 2)
    await store.archive_all()
    pulled = await store.pull(ANN)
    assert [state.name for state in pulled.states] == [b"s:a", b"s:b"]
    assert pulled.last_id >= done.id


async def test_the_head_is_that_of_the_newest_change(store: Store) -> None:
    timelines = Timelines(store.shards, window_us=WINDOW_US)
    done = await store.set(ANN, "a", 1)
    assert await timelines.heads([ANN, BEN]) == {ANN: done.id, BEN: 0}
    assert await timelines.head(ANN) < await store.send(Inbox(ANN), BEN) == await timelines.head(ANN)
