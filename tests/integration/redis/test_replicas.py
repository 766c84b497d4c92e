"""What a master could still lose is neither answered as stored nor given to others, whoever wrote it.

The process that wrote it may wait for replicas in vain, or may not have waited to the end.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from store.addresses import Inbox
from store.archive.outbox import Outbox
from store.errors import StoreAway
from store.events.kinds import EventKind, WantedEvents
from store.events.queues import OTHERS, EventQueues
from store.redis import keys
from store.redis.connection import connect, wait_for_replicas
from store.redis.links import Links
from store.redis.replicated import ReplicatedReads
from store.timelines.append import Appender
from store.timelines.recovery import StoreRecovery
from tests.cluster import TestCluster, slot_of
from tests.integration.redis.linked import ELSEWHERE, WINDOW_US, Store, running_store, start_again
from tests.servers import program, valkey_program


@pytest.fixture(scope="module", params=["redis", "valkey"])
def pairs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """Two masters, one with each of two shards, and a replica of each."""
    executable = program("redis-server") if request.param == "redis" else valkey_program()
    with TestCluster(tmp_path_factory.mktemp("pairs"), executable, masters=2).started() as cluster:
        assert cluster.owner(slot_of(0, 2)) is not cluster.owner(slot_of(1, 2))
        yield cluster


@pytest_asyncio.fixture
async def store(pairs: TestCluster, tmp_path: Path) -> AsyncIterator[Store]:
    pairs.mend()
    async with running_store(pairs.url, tmp_path) as running:
        yield running


def hold_up_home(pairs: TestCluster) -> None:
    """Lets the replica of the home's master get nothing more."""
    pairs.replicas_of(pairs.owner(slot_of(0, 2)))[0].hang()


async def test_a_connection_waits_for_what_it_has_only_read(pairs: TestCluster, store: Store) -> None:
    hold_up_home(pairs)
    await store.home.set(keys.PREFIX + b"written", "1")
    async with connect(pairs.url, single=True) as reading:
        assert await reading.get(keys.PREFIX + b"written") == b"1"
        with pytest.raises(StoreAway, match="0 of 1 replicas"):
            await wait_for_replicas(reading, 1)
        pairs.mend_nodes()
        await wait_for_replicas(reading, 1)
    assert not await store.home.exists(keys.MARK)


async def test_a_master_that_hangs_meanwhile_is_not_waited_for(pairs: TestCluster, store: Store) -> None:
    reads = ReplicatedReads(store.home, 1)
    await reads.confirm(reads.begin())
    node = reads.begin()
    pairs.owner(slot_of(0, 2)).hang()
    with pytest.raises(StoreAway, match="in vain"):
        await reads.confirm(node)
    pairs.mend_nodes()
    await reads.aclose()


async def test_a_link_is_not_carried_to_its_shard(pairs: TestCluster, store: Store) -> None:
    hold_up_home(pairs)
    first, second = await store.leave(2)
    careful = Links(store.shards, window_us=WINDOW_US, replicas=1)
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.reach(first.id)
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.carry([second])
    assert await store.received() == []
    pairs.mend_nodes()
    await careful.step()
    assert await store.received() == [first.id, second.id]
    await careful.aclose()


async def test_a_gate_carries_nothing(pairs: TestCluster, store: Store) -> None:
    hold_up_home(pairs)
    left = await store.leave()
    await start_again(store.other)
    careful = StoreRecovery(
        *(store.shards, store.archive, store.archiver), window_us=WINDOW_US, sync_sender=True, replicas=1
    )
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.ensure()
    assert int(await store.other.hget(store.other.key(keys.APPLIED), "id") or 0) < left[0].id
    # The home is used meanwhile.
    await store.puller.pull(1, 0, 1000)
    pairs.mend_nodes()
    await careful.ensure()
    assert await store.received() == [left[0].id]
    await careful.aclose()


async def test_the_outbox_is_not_read_for_the_archive(pairs: TestCluster, store: Store) -> None:
    hold_up_home(pairs)
    stored = await store.say()
    careful = Outbox(store.home, replicas=1)
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.read(10)
    careful.read_again()
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.read(10)
    pairs.mend_nodes()
    careful.read_again()
    assert [entry.id.partition(b"-")[0] for entry in await careful.read(10)] == [b"%d" % stored.mid]
    await careful.leave()


async def test_a_repeat_is_not_answered_as_stored(pairs: TestCluster, store: Store) -> None:
    """It comes by another connection than what it repeats."""
    hold_up_home(pairs)
    stored = await store.say(client_id="again")

    async def again() -> Any:
        options: dict[str, Any] = {"window_us": WINDOW_US, "repeat_seconds": 60, "outbox_limit": 2**30}
        appender = Appender(store.shards, replicas=1, links=store.links, **options)
        appender.start()
        try:
            return await appender.append(Inbox(ELSEWHERE), "1", "again", 0, True, b"{}")
        finally:
            await appender.stop()

    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await again()
    pairs.mend_nodes()
    assert await again() == (stored.mid, True)


async def test_an_event_is_not_given_to_be_delivered(pairs: TestCluster, store: Store) -> None:
    hold_up_home(pairs)
    wanted = WantedEvents([EventKind.MESSAGE_STORED], 2**20)
    appender = Appender(
        store.shards, window_us=WINDOW_US, repeat_seconds=60, outbox_limit=2**30, links=store.links, events=wanted
    )
    appender.start()
    stored = await appender.append(Inbox(ELSEWHERE), "1", "told", 0, True, b"{}")
    await appender.stop()
    careful = EventQueues(store.home, replicas=1)
    with pytest.raises(StoreAway, match="0 of 1 replicas"):
        await careful.waiting(OTHERS)
    pairs.mend_nodes()
    [entry] = await careful.waiting(OTHERS)
    assert b"%d" % stored.mid in entry.items[0]
    await careful.aclose()


async def test_what_no_replica_had_is_not_missed_after_a_failover(pairs: TestCluster, store: Store) -> None:
    """It was answered to nobody: nothing is rebuilt, and nobody is told to begin anew."""
    careful = StoreRecovery(
        *(store.shards, store.archive, store.archiver), window_us=WINDOW_US, sync_sender=True, replicas=1
    )
    epoch = await careful.ensure()
    kept = await store.say()
    await careful.ensure()
    master = pairs.owner(slot_of(0, 2))
    [replica] = pairs.replicas_of(master)
    # Its connection ends, and it cannot log in for another one.
    replica.ask("CONFIG", "SET", "masterauth", "wrong")
    replica.ask("CLIENT", "KILL", "TYPE", "master")
    await store.leave()
    await careful.ensure()
    master.kill()
    replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
    replica.ask("CONFIG", "SET", "masterauth", "")
    pairs.mend_nodes()
    with pytest.raises(StoreAway):
        # Its connections are still those to the master that was killed.
        await careful.ensure()
    assert await careful.ensure() == epoch
    assert await store.received() == [kept.mid]
    await careful.aclose()
