"""Rebuilds one shard beside the home, while the home and the other shards go on.

All that is archived of its users is put back as of one moment of the home: the id up to which everything had been put
on the links then, and where the shard's own link ended. From there on the link brings the rest.
"""

import secrets
import time

import structlog

from store.archive.archive import Archive
from store.archive.archiver import Archiver
from store.bans.restore import restore_bans
from store.errors import StoreBehind, StoreEmpty
from store.groups.restore import restore_memberships
from store.redis import keys
from store.redis.carrier import LINK_STATE
from store.redis.client import RedisClient
from store.redis.lease import rebuilding
from store.redis.replicated import ReplicatedReads
from store.redis.scripts import admit, script
from store.redis.shards import Shards
from store.states.restore import restore_states
from store.tags.restore import restore_holders
from store.timelines.gates import HOME, not_passed
from store.timelines.layout import layout_of
from store.timelines.lives import take_life
from store.timelines.put_back import put_back

_BEGIN_EPOCH = script("begin_epoch", bytes)

log = structlog.get_logger(__name__)


async def rebuild_shard(
    shards: Shards[RedisClient],
    shard: int,
    archive: Archive,
    archiver: Archiver,
    *,
    window_us: int,
    sync_sender: bool,
    replicas: int,
) -> bool:
    """Begins a new epoch of a shard that has none. The home has passed its gate, and the shard's comes after this.

    replicas: of the home, that must have what the rebuild begins with. Returns False if another process was faster.
    Raises StoreAway, ArchiveAway; StoreEmpty while another process rebuilds; StoreBehind if the shard was started again
    meanwhile, or the home, whose gate comes first.
    """
    redis, lease = shards[shard], rebuilding(shards.home)
    async with lease.held() as held:
        if not held:
            raise StoreEmpty("another process is rebuilding")
        if await redis.exists(redis.key(keys.EPOCH)):
            return False
        before = await not_passed(shards, [HOME, shard])

        async def keep() -> None:
            await lease.keep()
            now = await not_passed(shards, [HOME, shard])
            if HOME in now or now != before:
                raise StoreBehind("a server was started again or replaced meanwhile")

        await admit(shards.home, "link_state")
        reads = ReplicatedReads(shards.home, replicas)
        try:
            node = reads.begin()
            state = await LINK_STATE.run(shards.home, caller_time=time.time_ns() // 1000)
            await reads.confirm(node)
        finally:
            await reads.aclose()
        await take_life(shards, shard)
        await redis.hset(redis.key(keys.APPLIED), "id", state.tails[shard - 1])
        # What dormant users missed is nowhere but in the outbox until it is archived: only then it is forgotten who
        # they are.
        await archiver.archive_up_to(state.clock, keep)
        await redis.delete(redis.key(keys.DORMANT), redis.key(keys.UNSEEN))
        await restore_memberships(shards, shard, archive.groups, state.clock, keep)
        await restore_holders(shards, archive.tags, keep, shard=shard, as_of=state.clock)
        await restore_bans(shards, archive.operators, keep, only=shard)
        await restore_states(shards, archive.states, keep, only=shard)
        count = await put_back(
            *(shards, [shard], archive, state.clock, keep), window_us=window_us, sync_sender=sync_sender
        )
        await keep()
        epoch = await _BEGIN_EPOCH.run(
            redis,
            new_epoch=secrets.token_urlsafe(4),
            lowest_clock=state.clock,
            new_layout=layout_of(shards.count),
            new_shards=shards.count,
        )
        await redis.set(redis.key(keys.WINDOW), window_us)
        # Nobody knows which users are online there: the comparison with the broker is due now.
        await shards.home.delete(keys.RECONCILED)
    log.warning("shard_rebuilt", shard=shard, epoch=epoch.decode(), messages=count)
    return True
