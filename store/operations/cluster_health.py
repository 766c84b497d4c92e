"""Reads what a Redis Cluster is and how it is set up, node by node, for operators. Nothing is changed."""

import asyncio
from dataclasses import dataclass
from typing import Any

from store.errors import StoreAway
from store.operations.health import NodeState, configured, node_state
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.resolver import NodeAddress, NodeResolver
from store.redis.shards import Shards

SLOTS = 16_384


@dataclass(frozen=True)
class ClusterNode:
    """One node. ranges: first and last of the slots that it serves, or would if it had not failed. of: the id of its
    master, "" for a master. failed: whether the others say so.
    """

    id: str
    address: str
    of: str
    ranges: tuple[tuple[int, int], ...]
    failed: bool

    @property
    def slots(self) -> int:
        return sum(last + 1 - first for first, last in self.ranges)

    def serves(self, slot: int) -> bool:
        return not self.failed and any(first <= slot <= last for first, last in self.ranges)


@dataclass(frozen=True)
class ClusterState:
    """How the nodes see each other, as the one says that has the home.

    places: the node of each shard; None if nobody serves its slot. states: of each node that answers, or why it does
    not. full_coverage, timeout (milliseconds): None if the server does not let it be asked.
    """

    places: list[ClusterNode | None]
    nodes: list[ClusterNode]
    states: dict[str, NodeState | StoreAway]
    full_coverage: bool | None
    timeout: int | None

    @property
    def uncovered(self) -> int:
        """Returns how many slots no node serves."""
        return SLOTS - sum(node.slots for node in self.nodes if not node.failed)

    @property
    def shards(self) -> dict[ClusterNode, list[int]]:
        """Returns the masters that serve slots, with their shards."""
        masters = [node for node in self.nodes if not node.of and node.slots and not node.failed]
        return {node: [shard for shard, place in enumerate(self.places) if place == node] for node in masters}

    def replicas(self, master: ClusterNode) -> list[ClusterNode]:
        """Returns those that can take over from a master."""
        return [node for node in self.nodes if node.of == master.id and not node.failed]


async def cluster_state(redis: RedisClient, resolvers: Shards[NodeResolver], *, seconds: float) -> ClusterState:
    """Asks the node that has the home, which its resolver has found. Raises StoreAway."""
    lines: Any = await redis.execute_command("CLUSTER", "NODES")
    nodes = [_node(line.split(" ")) for line in lines.decode().splitlines()]
    places = [next((node for node in nodes if node.serves(each.slot)), None) for each in resolvers]
    known = sorted(resolvers.home.known)
    states = await asyncio.gather(*(_state(resolvers.home, address, seconds) for address in known))
    coverage = await configured(redis, "cluster-require-full-coverage")
    timeout = await configured(redis, "cluster-node-timeout")
    return ClusterState(
        places,
        nodes,
        dict(zip(map(str, known), states, strict=True)),
        None if coverage is None else coverage == "yes",
        None if timeout is None else int(timeout),
    )


async def _state(resolver: NodeResolver, address: NodeAddress, seconds: float) -> NodeState | StoreAway:
    client = connect(resolver.of_node(address), timeout=seconds)
    try:
        return await node_state(client)
    except StoreAway as error:
        return error
    finally:
        await client.aclose()


def _node(fields: list[str]) -> ClusterNode:
    """Reads one line of CLUSTER NODES: id, address, flags, master, ping, pong, epoch, link, and ranges of slots."""
    flags = fields[2].split(",")
    ranges = [each.partition("-") for each in fields[8:] if not each.startswith("[")]
    return ClusterNode(
        fields[0],
        fields[1].partition("@")[0],
        fields[3] if "slave" in flags else "",
        tuple((int(first), int(last or first)) for first, _, last in ranges),
        "fail" in flags or "noaddr" in flags,
    )
