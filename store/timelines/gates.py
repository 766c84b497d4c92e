"""The gates that shards pass, where there are several, before one is used whose server was started again or replaced.

It may lack what was written last. The home begins another life, above all that the others have of it; any other shard
takes the present life, and has its link carried to where it ended then. Until that is done only the script that applies
entries runs there, so nobody reads or writes. Which run of the server has passed is noted in the shard.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import structlog

from store.errors import LinkBroken, StoreEmpty
from store.redis import keys
from store.redis.carrier import Carrier
from store.redis.client import RedisClient
from store.redis.lease import rebuilding
from store.redis.scripts import admit, begin_admission
from store.redis.shards import Shards
from store.timelines.lives import begin_life, has_lost, take_life

HOME = 0

log = structlog.get_logger(__name__)


class GateOutcome(StrEnum):
    """COMPLETE: the shard had all that was written. LACKED: it got again from the home what it lacked. REBUILT: it was
    put back from the archive."""

    COMPLETE = "complete"
    LACKED = "lacked"
    REBUILT = "rebuilt"


async def pass_home_gate(shards: Shards[RedisClient], known: int) -> bool:
    """Lets the home go on, if it was started again; returns whether it was. It comes before all others.

    known: the highest id that this process was given. Raises StoreAway, StoreBehind; StoreEmpty while another process
    does this.
    """
    if not await not_passed(shards, [HOME]):
        return False
    async with _alone(shards):
        runs = await not_passed(shards, [HOME])
        if HOME in runs:
            await begin_admission(shards.home)
            await _pass_home(shards, known)
            await _note(shards, {HOME: runs[HOME]})
            return True
        return False


async def pass_gate(shards: Shards[RedisClient], shard: int, *, window_us: int, replicas: int) -> GateOutcome | None:
    """Brings another shard than the home to where it may be used, if it was started again; returns how it came back.

    replicas: of the home, that must have what is carried. Raises StoreAway, StoreBehind; StoreEmpty while another
    process does this, and if the shard lacks what is on its link no more: it has no epoch then.
    """
    if not await not_passed(shards, [shard]):
        return None
    async with _alone(shards):
        run = (await not_passed(shards, [shard])).get(shard)
        if run is None:
            return None
        outcome = await _pass_other(shards, shard, window_us=window_us, replicas=replicas)
        await _note(shards, {shard: run})
        return outcome


@asynccontextmanager
async def _alone(shards: Shards[RedisClient]) -> AsyncIterator[None]:
    async with rebuilding(shards.home).held() as held:
        if not held:
            raise StoreEmpty("another process looks after the shards")
        yield


async def carry_all(shards: Shards[RedisClient], *, window_us: int, replicas: int) -> None:
    """Returns once every shard has what was on its link. Raises StoreAway, StoreBehind; StoreEmpty if a shard lacks
    what is on its link no more: it has no epoch then."""
    for shard in shards.others:
        await _carry(shards, shard, window_us=window_us, replicas=replicas)


async def note_passed(shards: Shards[RedisClient]) -> None:
    """Notes that all shards have passed, as they were rebuilt. Raises StoreAway."""
    await _note(shards, await not_passed(shards, range(shards.count)))


async def not_passed(shards: Shards[RedisClient], numbers: Sequence[int]) -> dict[int, str]:
    """Returns the runs of the servers by shard, of those of these that have not passed."""
    runs = {}
    for shard in numbers:
        redis = shards[shard]
        server: Any = await redis.info("server")
        run = str(server["run_id"])
        passed: Any = await redis.get(redis.key(keys.ADMITTED))
        if passed != run.encode():
            runs[shard] = run
    return runs


async def _note(shards: Shards[RedisClient], runs: dict[int, str]) -> None:
    for shard, run in runs.items():
        await shards[shard].set(shards[shard].key(keys.ADMITTED), run)


async def _pass_home(shards: Shards[RedisClient], known: int) -> None:
    if await has_lost(shards) or not await begin_life(shards, known):
        # Tags, bans and states of other shards may follow what it lost: all is rebuilt, and everybody is told.
        await shards.home.delete(keys.EPOCH)
        raise StoreEmpty("the home lost what other shards have, and is to be rebuilt")
    log.warning("home_passed")


async def _pass_other(shards: Shards[RedisClient], shard: int, *, window_us: int, replicas: int) -> GateOutcome:
    await begin_admission(shards[shard])
    stands = await take_life(shards, shard)
    # From here on callers carry what they write; what was written before is on the link up to the tail.
    await shards.home.srem(keys.AWAY, str(shard))
    tail = await _carry(shards, shard, window_us=window_us, replicas=replicas)
    lacked = stands.applied < tail
    log.warning("shard_passed", shard=shard, lacked=lacked)
    return GateOutcome.LACKED if lacked else GateOutcome.COMPLETE


async def _carry(shards: Shards[RedisClient], shard: int, *, window_us: int, replicas: int) -> int:
    """Returns the id of the newest entry of a link, once it is applied. Raises as `carry_all` does."""
    tail = int(await shards.home.hget(keys.LINKS, str(shard)) or 0)
    await admit(shards[shard], "apply")
    # The shard may have no replica yet, and is to be used all the same.
    carrier = Carrier(*(shards.home, shards[shard], shard), window_us=window_us, replicas=0, home_replicas=replicas)
    try:
        await carrier.catch_up(tail)
        if carrier.applied < tail:
            raise LinkBroken(f"The link to shard {shard} begins after {carrier.applied}.")
    except LinkBroken as error:
        # Nobody waits for it until it is rebuilt, and has passed its gate.
        await shards.home.sadd(keys.AWAY, str(shard))
        await shards[shard].delete(shards[shard].key(keys.EPOCH))
        raise StoreEmpty(f"shard {shard} is to be rebuilt: {error}") from error
    finally:
        await carrier.aclose()
    return tail
