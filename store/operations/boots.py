"""Which nodes of the broker have just begun to run, for all processes: a hash of the lives that were seen."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from store.redis import keys
from store.redis.client import RedisClient

_SAME_MS = 10_000
"""The most by which clocks of processes may differ. A node that began later than that has begun anew."""
_YOUNG_MS = 300_000
"""A node that was never seen before is new if it runs no longer than this: else it ran before anybody looked."""

_OPEN, _CLOSED = b"open", b"closed"


class NodeLife(NamedTuple):
    """From one start of a node to its end. began, seen: when it was started, and seen first (milliseconds)."""

    node: str
    began: int
    seen: int


class Boots:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def begun(self, uptimes: Mapping[str, int], now: int) -> list[NodeLife]:
        """Returns the lives of these nodes that were not closed yet. uptimes: for how long each runs.

        All in milliseconds.
        """
        if not uptimes:
            return []
        found: list[NodeLife] = []
        new: dict[Any, Any] = {}
        held: Any = await self._redis.hmget(keys.BOOTS, list(uptimes))
        for (node, uptime), value in zip(uptimes.items(), held, strict=True):
            life, is_open = _read(node, value) if value else (None, False)
            if life is None or now - uptime > life.began + _SAME_MS:
                is_open = life is not None or uptime < _YOUNG_MS
                life = NodeLife(node, now - uptime, now)
                new[node] = _written(life, _OPEN if is_open else _CLOSED)
            if is_open:
                found.append(life)
        if new:
            await self._redis.hset(keys.BOOTS, mapping=new)
        return found

    async def close(self, life: NodeLife) -> None:
        """Notes that nothing more is to be done about its beginning."""
        await self._redis.hset(keys.BOOTS, life.node, _written(life, _CLOSED))


def _written(life: NodeLife, state: bytes) -> bytes:
    return b"%d %d %s" % (life.began, life.seen, state)


def _read(node: str, value: bytes) -> tuple[NodeLife, bool]:
    began, seen, state = value.split()
    return NodeLife(node, int(began), int(seen)), state == _OPEN
