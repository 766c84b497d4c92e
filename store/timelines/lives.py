"""The lives of the home: after it may have lost something it goes on in another one, which every shard knows before.

A Redis that was replaced or restarted may lack what it wrote last, and other shards may have it. So the home takes over
where they stand, and goes on above all that they have; and what is still on its way of an earlier life is refused.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from store.addresses import Group
from store.errors import StoreBehind
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards

_NO_GROUP = 0
_GROUPS_AT_ONCE = 50


class Fence(NamedTuple):
    """life: the newest that a shard knows. applied: the id of its newest entry. clock: up to which it has all."""

    life: int
    applied: int
    clock: int


_FENCE = script("fence", Fence)
_BEGIN = script("begin_life", int)


async def begin_life(
    shards: Shards[RedisClient],
    lowest: int,
    *,
    rebuilt: bool = False,
    keep_lock: Callable[[], Awaitable[object]] | None = None,
) -> bool:
    """Begins another life of the home, in one process at a time and while nobody writes. If the home has lost anything
    that another shard has, it does not, and returns False, unless all was `rebuilt`.

    lowest: an id that the home is to go on above. rebuilt: every shard is told who is in each group that it was ever
    told of, not only in those of which the home may not know what it told. keep_lock: is called repeatedly. Raises
    StoreAway, StoreBehind.
    """
    # As late as the time, should there be nothing left that knows of the lives before.
    life = max(int(await shards.home.hget(keys.LINKS, "life") or 1) + 1, time.time_ns() // 1_000_000)
    fences = await _fence(shards, life)
    if (latest := max((fence.life for fence in fences.values()), default=life)) > life:
        # Somebody whose clock was ahead has begun one, and did not come to its end.
        life = latest + 1
        fences = await _fence(shards, life)
    if any(fence.life > life for fence in fences.values()):
        raise StoreBehind("a shard knows a later life of the home")
    tails: Any = await shards.home.hgetall(keys.LINKS)
    told = list[tuple[int, int, int, str]]()
    for shard, fence in fences.items():
        redis, tail = shards[shard], int(tails.get(b"%d" % shard, 0))
        if fence.applied > tail and not rebuilt:
            return False
        told.append((shard, fence.applied, _NO_GROUP, ""))
        unknown: Any = await redis.zrangebyscore(
            redis.key(keys.CHANGED_GROUPS), "-inf" if rebuilt else f"({tail}", "+inf"
        )
        told += [(shard, fence.applied, gid, Group(gid).channel) for gid in map(int, unknown)]
    lowest = max([lowest, *(fence.clock for fence in fences.values())])
    for start in range(0, len(told), _GROUPS_AT_ONCE):
        if keep_lock is not None:
            await keep_lock()
        some = told[start : start + _GROUPS_AT_ONCE]
        await _BEGIN.run(
            shards.home,
            more_keys=[keys.members(gid) for _, _, gid, _ in some],
            more_arguments=[each for one in some for each in one],
            shard_count=shards.count,
            life=life,
            lowest_clock=lowest,
        )
    return True


async def _fence(shards: Shards[RedisClient], life: int) -> dict[int, Fence]:
    return {shard: await _FENCE.run(shards[shard], life=life) for shard in shards.others}


async def has_lost(shards: Shards[RedisClient]) -> bool:
    """Returns whether another shard has more of its link than the home knows that it wrote. Raises StoreAway."""
    tails: Any = await shards.home.hgetall(keys.LINKS)
    for shard in shards.others:
        applied: Any = await shards[shard].hget(shards[shard].key(keys.APPLIED), "id")
        if int(applied or 0) > int(tails.get(b"%d" % shard, 0)):
            return True
    return False


async def take_life(shards: Shards[RedisClient], shard: int) -> Fence:
    """Lets a shard know the present life of the home; returns where it stands. Raises StoreAway, StoreBehind."""
    life = int(await shards.home.hget(keys.LINKS, "life") or 1)
    fence = await _FENCE.run(shards[shard], life=life)
    if fence.life > life:
        raise StoreBehind(f"Shard {shard} knows a later life of the home than {life}.")
    return fence
