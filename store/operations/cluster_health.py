"""Reads what a Redis Cluster is and how it is set up, node by node, for operators. Nothing is changed."""

import asyncio
from dataclasses import dataclass
from typing import Any

from store.errors import StoreAway
from store.operations.health import NodeState, configured, node_state
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.redis.resolver import NodeAddress, NodeResolver

SLOTS = 16_384


@dataclass(frozen=True)
class ClusterNode:
    """One node. slots: that it serves, or would if it had not failed. of: the id of its master, "" for a master.

    failed: whether the others say so.
    """

    id: str
    address: str
    of: str
    slots: int
    failed: bool


@dataclass(frozen=True)
class ClusterState:
    """How the nodes see each other, as the one says that has the store.

    store: the address and id of that node. states: of each node that answers, or why it does not. full_coverage,
    timeout (milliseconds): None if the server does not let it be asked.
    """

    store: ClusterNode
    nodes: list[ClusterNode]
    states: dict[str, NodeState | StoreAway]
    full_coverage: bool | None
    timeout: int | None

    @property
    def uncovered(self) -> int:
        """Returns how many slots no node serves."""
        return SLOTS - sum(node.slots for node in self.nodes if not node.failed)

    @property
    def replicas(self) -> list[ClusterNode]:
        """Returns those of the node that has the store."""
        return [node for node in self.nodes if node.of == self.store.id and not node.failed]


async def cluster_state(redis: RedisClient, resolver: NodeResolver, *, seconds: float) -> ClusterState:
    """Asks the node that has the store, which the resolver has found. Raises StoreAway."""
    lines: Any = await redis.execute_command("CLUSTER", "NODES")
    nodes = [_node(line.split(" ")) for line in lines.decode().splitlines()]
    store = next(_node(line.split(" ")) for line in lines.decode().splitlines() if "myself" in line)
    known = sorted(resolver.known)
    states = await asyncio.gather(*(_state(resolver, address, seconds) for address in known))
    coverage = await configured(redis, "cluster-require-full-coverage")
    timeout = await configured(redis, "cluster-node-timeout")
    return ClusterState(
        store,
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
        sum(int(last or first) - int(first) + 1 for first, _, last in ranges),
        "fail" in flags or "noaddr" in flags,
    )
