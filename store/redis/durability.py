"""Tells how durable a write is when Redis has answered it, and when the archive makes up for the rest."""

from typing import Any, NamedTuple

from store.errors import RedisRefused, StoreAway
from store.redis import keys
from store.redis.client import RedisClient

ALWAYS = "always"


class Durability(NamedTuple):
    """How safe writes are at one moment.

    aof: `always`, `everysec`, `no` (Redis's `appendfsync`), `off` (no AOF), or `unknown` where Redis does not tell.
    life: names this run of the server and the store's epoch; what was written in another life may be gone.
    archived_below: every message with a lower id is in the archive; None: every message stored before this was asked.
    """

    aof: str
    life: tuple[str, bytes | None]
    archived_below: int | None

    @property
    def immediate(self) -> bool:
        """Returns whether a write is on disk when it is answered."""
        return self.aof == ALWAYS

    def holds(self, mid: int) -> bool:
        """Returns whether a message of this life, stored before this was asked, survives whatever happens to Redis."""
        return self.immediate or self.archived_below is None or mid < self.archived_below


async def look(redis: RedisClient) -> Durability:
    """Asks Redis, in one round trip. Raises StoreAway."""
    async with redis.pipeline(transaction=False) as pipe:
        # Before the epoch: an outbox emptied by a FLUSHALL is then not taken for one that was archived.
        pipe.xrange(keys.OUTBOX, count=1)
        pipe.get(keys.EPOCH)
        pipe.info("server")
        pipe.info("persistence")
        pipe.config_get("appendfsync")
        first, epoch, server, persistence, config = await pipe.execute(raise_on_error=False)
    for reply in (first, epoch, server, persistence):
        if isinstance(reply, Exception):
            raise StoreAway(f"durability: {reply}") from reply
    return Durability(
        aof=_aof(persistence, config),
        life=(str(server["run_id"]), epoch),
        archived_below=int(first[0][0].split(b"-")[0]) if first else None,
    )


def _aof(persistence: dict[str, Any], config: dict[str, str] | Exception) -> str:
    """Returns how Redis syncs its log; `unknown` if CONFIG is denied, as on many managed servers."""
    if not persistence.get("aof_enabled"):
        return "off"
    if isinstance(config, RedisRefused):
        return "unknown"
    if isinstance(config, Exception):
        raise StoreAway(f"durability: {config}") from config
    return config.get("appendfsync", "unknown")
