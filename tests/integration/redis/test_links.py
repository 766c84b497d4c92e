"""What the home has written is carried to other shards: in order, once, by whoever comes first."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from hooks.messaging.group_notices import GroupControlMessages
from store.addresses import Inbox
from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.bans.bans import Bans
from store.errors import ArchiveAway, EntryFailed, StoreAway, StoreBehind, StoreEmpty, StoreError, UserBanned
from store.groups.context import CommandContext
from store.groups.groups import Groups, Limits
from store.groups.restore import restore_memberships
from store.operations.dead_letters import DeadLetters
from store.redis import keys, links
from store.redis.carrier import Carrier, LinkEntry, LinkState
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.scripts import admit, begin_admission
from store.redis.shards import Shards, connect_each, connected, resolvers
from store.redis.write_bounds import ScriptBounds
from store.timelines import gates, recovery, shard_rebuild
from store.timelines.append import Appender, Stored
from store.timelines.gates import GateOutcome
from store.timelines.lives import begin_life
from store.timelines.pull import Puller
from store.timelines.recovery import StoreRecovery
from store.timelines.spans import SPAN_SECONDS, span
from store.workers import Supervisor
from tests.integration.app import until
from tests.servers import RedisServer

LIMITS = Limits(write=500, read=500, user=10, groups=10, made=10, known=False)
NOTICES = GroupControlMessages("secret")
WINDOW_US = 7 * 86_400_000_000
ELSEWHERE = 20_000
"""A user of the second of two shards."""


class Dying(Links):
    """A process that dies before it carries anything: `left` is what it has left."""

    def __init__(self, shards: Shards[RedisClient]) -> None:
        super().__init__(shards, window_us=WINDOW_US)
        self.left: list[LinkEntry] = []

    async def carry(self, entries: list[LinkEntry]) -> None:  # type: ignore[override]
        self.left += entries
        raise StoreEmpty("it died")


class Store:
    def __init__(self, url: str, directory: Path) -> None:
        nodes = resolvers(url, 2)
        self.shards = connect_each(nodes)
        self.home, self.other = self.shards
        self.gaps: list[int] = []
        self.links = Links(self.shards, window_us=WINDOW_US, on_gap=self.gaps.append)
        self.archive = open_archive(f"sqlite:///{directory}/archive.db")
        self.outbox = Outbox(self.home)
        self.archiver = Archiver(self.outbox, handlers(self.archive), DeadLetters(self.home))
        self.recovery = StoreRecovery(self.shards, self.archive, self.archiver, window_us=WINDOW_US, sync_sender=True)
        self.puller = Puller(self.shards, self.archive, self.outbox, window_us=WINDOW_US, roaming_us=WINDOW_US)
        self.writing = connect(nodes.home, single=True)
        self.groups = Groups(
            *(self.shards, self.writing),
            window_us=WINDOW_US,
            repeat_seconds=60,
            outbox_limit=2**30,
            limits=LIMITS,
            links=self.links,
        )
        self._sent = 0

    async def say(self, carried_by: Links | None = None, client_id: str = "") -> Stored:
        """Sends a message to the user elsewhere."""
        self._sent += 1
        appender = self.appender(carried_by or self.links)
        appender.start()
        try:
            return await appender.append(Inbox(ELSEWHERE), "1", client_id or f"m{self._sent}", 0, True, b"{}")
        finally:
            await appender.stop()

    def appender(self, links: Links) -> Appender:
        return Appender(self.shards, window_us=WINDOW_US, repeat_seconds=60, outbox_limit=2**30, links=links)

    async def make_group(self, gid: int) -> None:
        await self.groups.create(CommandContext(gid, 1, "make", NOTICES))

    async def invite(self, gid: int, uid: int) -> None:
        await self.groups.invite(CommandContext(gid, 1, f"invite {uid}", NOTICES), members=[uid])

    async def epochs(self) -> list[Any]:
        return [await client.get(client.key(keys.EPOCH)) for client in self.shards]

    async def look_anew(self) -> list[tuple[int, GateOutcome]]:
        """Looks after the store as a process does that has just begun; returns which shards it has let in, and how."""
        gates: list[tuple[int, GateOutcome]] = []
        recovery = StoreRecovery(
            *(self.shards, self.archive, self.archiver),
            window_us=WINDOW_US,
            sync_sender=True,
            on_gate=lambda *gate: gates.append(gate),
        )
        await recovery.ensure()
        return gates

    async def received(self) -> list[int]:
        return [message.mid for message in (await self.puller.pull(ELSEWHERE, 0, 1000)).messages]

    async def clock(self) -> int:
        return int(await self.other.get(self.other.key(keys.CLOCK)) or 0)


async def copied(client: RedisClient) -> dict[bytes, bytes]:
    """Returns all that lies in a shard."""
    return {name: await client.dump(name) or b"" async for name in client.scan_iter(match=client.prefix + b"*")}


async def put_back(client: RedisClient, copy: dict[bytes, bytes]) -> None:
    """Makes a shard what it was when it was copied, as a failover that loses its last writes does."""
    for name in [name async for name in client.scan_iter(match=client.prefix + b"*")]:
        await client.delete(name)
    for name, data in copy.items():
        await client.restore(name, 0, data)


async def start_again(client: RedisClient) -> None:
    """Makes it seem that the server of a shard was started again: it has another run, and no scripts."""
    await client.delete(client.key(keys.ADMITTED))
    await client.script_flush()


async def joined_and_left(redis: RedisClient, uid: int, gid: int) -> int:
    """Returns when a user left a group, as their shard knows it."""
    held: Any = await redis.hget(redis.key(keys.channel_map(uid)), f"group:{gid}")
    joined, _, left = held.decode().partition(":")
    assert int(joined) < int(left)
    return int(left)


@asynccontextmanager
async def running_store(url: str, directory: Path) -> AsyncIterator[Store]:
    """Yields a store of two shards that has just begun, and has seen its users."""
    running = Store(url, directory)
    await running.archive.migrate()
    await running.recovery.ensure()
    for client in running.shards:
        await client.zadd(client.key(keys.SEEN), {"1": time.time_ns() // 1_000_000, str(ELSEWHERE): 1})
    yield running
    await running.writing.aclose()
    await running.links.aclose()
    await running.archive.close()
    for client in running.shards:
        await client.aclose()


@pytest_asyncio.fixture
async def store(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Store]:
    async with running_store(redis_server.url, tmp_path) as running:
        yield running


async def test_who_comes_next_carries_what_a_process_has_left(store: Store) -> None:
    dying = Dying(store.shards)
    with pytest.raises(StoreEmpty):
        await store.say(dying)
    assert await store.received() == []
    first = dying.left[0].id
    assert store.gaps == []
    second = await store.say()
    assert store.gaps == [1]
    assert await store.received() == [first, second.mid]
    assert await store.clock() >= second.mid


async def test_what_nobody_carries_is_carried_after_all(store: Store) -> None:
    dying = Dying(store.shards)
    with pytest.raises(StoreEmpty):
        await store.say(dying)
    await store.links.step()
    assert await store.received() == [dying.left[0].id]


async def test_a_caller_that_goes_away_leaves_a_failure_to_nobody(store: Store) -> None:
    """asyncio would report that as an unexpected error."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    dying = Dying(store.shards)
    for _ in range(3):
        with pytest.raises(StoreEmpty):
            await store.say(dying)
    await store.other.rename(store.other.key(keys.EPOCH), b"away")
    first, gone, last = (asyncio.create_task(store.links.carry([entry])) for entry in dying.left)
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
    dying = Dying(store.shards)
    with pytest.raises(StoreEmpty):
        await store.say(dying, "again")
    again = await store.say(client_id="again")
    assert again == Stored(dying.left[0].id, True)
    assert await store.received() == [again.mid]


async def test_entries_that_come_late_and_twice_are_passed_over(store: Store) -> None:
    dying = Dying(store.shards)
    for _ in range(2):
        with pytest.raises(StoreEmpty):
            await store.say(dying)
    for entry in (dying.left[1], dying.left[0], dying.left[1]):
        await store.links.carry([entry])
    assert await store.received() == [entry.id for entry in dying.left]


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


async def test_an_entry_of_an_earlier_life_is_refused(store: Store) -> None:
    dying = Dying(store.shards)
    with pytest.raises(StoreEmpty):
        await store.say(dying)
    await store.recovery.rebuild()
    before = await store.received()
    with pytest.raises(StoreBehind, match="another life"):
        await store.links.carry(dying.left)
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
    dying = Dying(store.shards)
    with pytest.raises(StoreEmpty):
        await store.say(dying)
    await put_back(store.home, copy)
    assert not await begin_life(store.shards, 0)
    assert await begin_life(store.shards, 0, rebuilt=True)
    with pytest.raises(StoreBehind, match="another life"):
        await store.links.carry(dying.left)
    fourth = await store.say()
    with pytest.raises(StoreBehind, match="another life"):
        await store.links.carry(dying.left)
    received = await store.received()
    assert {kept.mid, second.mid, fourth.mid} < {*received}
    assert dying.left[0].id not in received
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


async def test_a_message_is_not_stored_while_its_shard_is_away(store: Store) -> None:
    await store.other.rename(store.other.key(keys.EPOCH), b"away")
    with pytest.raises(StoreEmpty):
        await store.say(client_id="away")
    await store.other.rename(b"away", store.other.key(keys.EPOCH))
    stored = await store.say(client_id="away")
    assert stored.repeated
    assert await store.received() == [stored.mid]


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


@pytest_asyncio.fixture
async def cut_off(store: Store) -> AsyncIterator[Shards[RedisClient]]:
    """The shards as a process sees them that does not reach the second one."""
    unreached = connect("redis://127.0.0.1:1", prefix=store.other.prefix)
    yield Shards([store.home, unreached])
    await unreached.aclose()


async def test_nobody_waits_for_a_shard_that_is_away(
    store: Store, cut_off: Shards[RedisClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is marked, what is for it is not stored; from then on it waits on the link until the shard is back."""
    links_of_cut_off = Links(cut_off, window_us=WINDOW_US)
    with pytest.raises(StoreAway):
        await links_of_cut_off.step()
    with pytest.raises(StoreAway):
        await store.say(links_of_cut_off, "first")
    monkeypatch.setattr(links, "_AWAY_SECONDS", 0.0)
    with pytest.raises(StoreAway):
        await links_of_cut_off.step()
    first = await store.say(links_of_cut_off, "first")
    second = await store.say(links_of_cut_off, "second")
    assert first.repeated
    assert not second.repeated
    assert await store.received() == []
    await store.links.step()
    assert await store.received() == [first.mid, second.mid]
    with pytest.raises(StoreAway):
        await store.say(links_of_cut_off)
    await links_of_cut_off.aclose()


async def test_a_shard_that_was_away_and_started_again_has_everything_before_it_is_used(store: Store) -> None:
    await store.home.sadd(keys.AWAY, "1")
    stored = await store.say()
    assert await store.received() == []
    await start_again(store.other)
    await store.look_anew()
    assert await store.received() == [stored.mid]
    assert await store.home.scard(keys.AWAY) == 0


async def test_the_others_are_looked_after_while_a_shard_is_away(store: Store, cut_off: Shards[RedisClient]) -> None:
    recovery = StoreRecovery(cut_off, store.archive, store.archiver, window_us=WINDOW_US, sync_sender=True)
    await store.home.script_flush()
    with pytest.raises(StoreBehind):
        await store.puller.pull(1, 0, 1000)
    with pytest.raises(StoreAway, match="shard 1 is away"):
        await recovery.ensure()
    await store.puller.pull(1, 0, 1000)


async def test_a_shard_that_hangs_holds_up_no_other(
    redis: RedisClient, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beat is still waited for when the next ones of the others have come."""
    monkeypatch.setattr(links, "_BEAT_SECONDS", 0.05)
    archive = open_archive(f"sqlite:///{tmp_path}/archive.db")
    await archive.migrate()
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1")
    hanging_url = f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with connected(redis_server.url, 3) as shards:
        home, third = shards.home, shards[2]
        archiver = Archiver(Outbox(home), handlers(archive), DeadLetters(home))
        await StoreRecovery(shards, archive, archiver, window_us=WINDOW_US, sync_sender=True).ensure()
        hanging = connect(hanging_url, prefix=shards[1].prefix)
        beating = Links(Shards([home, hanging, third]), window_us=WINDOW_US)
        for _ in range(2):
            await home.set(keys.CLOCK, time.time_ns() // 1000 - 60_000_000)
            before = time.time_ns() // 1000
            await beating.step()
            assert int(await third.get(third.key(keys.CLOCK)) or 0) >= before
        await beating.aclose()
        await hanging.aclose()
    for writer in held:
        writer.close()
        await writer.wait_closed()
    silent.close()
    await archive.close()


async def test_several_processes_find_that_a_shard_hangs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them looks all the time: those who look by turns would never have looked for long."""
    monkeypatch.setattr(links, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(links, "_AWAY_SECONDS", 0.5)
    beat = Carrier.beat

    async def hanging(carrier: Carrier, state: LinkState) -> int:
        await asyncio.sleep(0.2)
        raise StoreAway("it hangs")

    monkeypatch.setattr(Carrier, "beat", hanging)
    beating = [Links(store.shards, window_us=WINDOW_US) for _ in range(3)]
    async with Supervisor(expected=(StoreAway,)) as workers:
        for number, each in enumerate(beating):
            workers.start(f"links {number}", each.run)

        async def away() -> bool:
            return bool(await store.home.sismember(keys.AWAY, "1"))

        await until(away, 10)
        monkeypatch.setattr(Carrier, "beat", beat)
        await until(lambda: _not(away), 10)
    for each in beating:
        await each.aclose()


async def _not(check: Callable[[], Awaitable[bool]]) -> bool:
    return not await check()


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
    dying = Dying(store.shards)
    await store.links.step()
    assert await store.home.xlen(keys.LINK_PREFIX + b"1") == 0
    with pytest.raises(StoreEmpty):
        await store.say(dying)
    assert await store.home.xlen(keys.LINK_PREFIX + b"1") == 1
    await store.links.step()
    assert (await store.received())[-1] == dying.left[0].id


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
