"""A shard that does not answer, or hangs, holds up no other, and is not waited for after a while."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import handlers
from store.archive.outbox import Outbox
from store.errors import StoreAway, StoreBehind, StoreEmpty
from store.operations.dead_letters import DeadLetters
from store.redis import keys, links
from store.redis.carrier import Carrier, LinkState
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.links import Links
from store.redis.shards import Shards, connected
from store.timelines.recovery import StoreRecovery
from store.workers import Supervisor
from tests.integration.app import until
from tests.integration.redis.linked import (
    WINDOW_US,
    Store,
    start_again,
)
from tests.servers import RedisServer


async def test_a_message_is_not_stored_while_its_shard_is_away(store: Store) -> None:
    await store.other.rename(store.other.key(keys.EPOCH), b"away")
    with pytest.raises(StoreEmpty):
        await store.say(client_id="away")
    await store.other.rename(b"away", store.other.key(keys.EPOCH))
    stored = await store.say(client_id="away")
    assert stored.repeated
    assert await store.received() == [stored.mid]


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
