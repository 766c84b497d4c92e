"""The shards of the store: where a user's timelines lie, and the clients by which they are reached.

The home, shard 0, judges whatever is written and gives the ids; it also has the timelines of a part of the users. The
other shards have the timelines of the other users, and what else belongs to a user; links bring them what the home has
written (`store/redis/links.py`). A shard is a part of the keys, which begin alike (`keys.py`): shards may lie on
one server, or on the nodes of a cluster.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from store.redis import keys
from store.redis.client import RedisClient
from store.redis.connection import connect, resolver
from store.redis.resolver import NodeResolver

# As in `lua/include/shards.lua`. Blocks of users that follow each other, or lie as far apart as generators of ids put
# them, are spread evenly: `tests/unit/redis/test_shards.py`.
_PRIME, _FACTOR = 16_777_213, 3_088_860

Client = TypeVar("Client", covariant=True)
Other = TypeVar("Other")
Item = TypeVar("Item")


def shard_among(uid: int, count: int) -> int:
    """Returns in which of so many shards a user's timelines lie. Users of one presence bitmap lie together."""
    block = uid // keys.USERS_PER_BITMAP % _PRIME
    return block * _FACTOR % _PRIME * count // _PRIME


class Shards(Generic[Client]):
    """One client for each shard, the home's first."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self._clients = tuple(clients)
        self.home = self._clients[0]
        self.count = len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients)

    def __getitem__(self, shard: int) -> Client:
        return self._clients[shard]

    @property
    def others(self) -> range:
        """Returns the numbers of the shards beside the home."""
        return range(1, self.count)

    def number(self, uid: int) -> int:
        """Returns the number of a user's shard."""
        return shard_among(uid, self.count) if self.count > 1 else 0

    def of(self, uid: int) -> Client:
        """Returns the client of a user's shard."""
        return self._clients[self.number(uid)]

    def map(self, make: Callable[[Client], Other]) -> "Shards[Other]":
        """Returns what is made of each client."""
        return Shards(map(make, self._clients))

    def parts(self, items: Sequence[Item], uid_of: Callable[[Item], int]) -> list[tuple[Client, Sequence[Item]]]:
        """Returns what belongs to the users of each shard, where there is any, in its order."""
        if self.count == 1:
            return [(self.home, items)] if items else []
        parts: dict[int, list[Item]] = {}
        for item in items:
            parts.setdefault(self.number(uid_of(item)), []).append(item)
        return [(self._clients[shard], some) for shard, some in parts.items()]


def resolvers(url: str, count: int) -> Shards[NodeResolver]:
    """Returns what finds the node of each of so many shards, on the server or the cluster at a URL."""
    found = Shards(resolver(url, keys.shard_prefix(shard, count)) for shard in range(count))
    for node in found:
        node.is_one_of_several = count > 1
    return found


def connect_each(nodes: Shards[NodeResolver], **options: Any) -> Shards[RedisClient]:
    """Returns a client for each shard; options: those of `connect`."""
    return nodes.map(lambda node: connect(node, **options))


def on_one_server(url: str, count: int, **options: Any) -> Shards[RedisClient]:
    """Returns clients of so many shards, wherever they lie at a URL; options: those of `connect`."""
    return connect_each(resolvers(url, count), **options)


@asynccontextmanager
async def connected(url: str, count: int, **options: Any) -> AsyncIterator[Shards[RedisClient]]:
    """Yields such clients, and closes them at the end."""
    nodes = resolvers(url, count)
    shards = connect_each(nodes, **options)
    try:
        yield shards
    finally:
        for client in shards:
            await client.aclose()
        for node in nodes:
            await node.aclose()


def as_shards(redis: Client | Shards[Client]) -> Shards[Client]:
    """Returns the shards; a client by itself is that of the only one."""
    return redis if isinstance(redis, Shards) else Shards([redis])
