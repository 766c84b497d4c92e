"""Checks a Redis Cluster: what takes over from what, and whether every node is set up to have the store."""

from hooks.doctor import CheckState, Finding, fail, ok, redis_servers, warn
from store.operations.cluster_health import SLOTS, ClusterState
from store.operations.health import NodeState

CLUSTER = "Redis Cluster"
MAX_TIMEOUT_MS = 10_000
"""The longest `cluster-node-timeout` that is not warned of; a failover takes about two seconds more."""


def examine(state: ClusterState) -> list[Finding]:
    checks = (_covered, _failed, _replicated, _even, _quick, _alike, _nodes)
    return [finding for check in checks for finding in check(state)]


def _covered(state: ClusterState) -> list[Finding]:
    found = []
    if lost := [shard for shard, place in enumerate(state.places) if place is None]:
        mend = "see `redis-cli --cluster check`, and let its master or a replica serve the slots again"
        found.append(fail(CLUSTER, f"no node serves the slot of {_named(lost)}: its users are answered 503", mend))
    if not state.uncovered:
        found.append(ok(CLUSTER, f"all {SLOTS} slots are served"))
    elif state.full_coverage is False:
        mend = "see `redis-cli --cluster check`; the store does not need these slots"
        found.append(warn(CLUSTER, f"{state.uncovered} slots are served by no node", mend))
    else:
        what = f"{state.uncovered} slots are served by no node, which may stop the whole cluster"
        found.append(fail(CLUSTER, what, "see `redis-cli --cluster fix`, and set cluster-require-full-coverage no"))
    if state.full_coverage:
        what = "cluster-require-full-coverage is yes: slots that the store does not need can stop it"
        found.append(warn(CLUSTER, what, "set cluster-require-full-coverage no on every node"))
    return found


def _failed(state: ClusterState) -> list[Finding]:
    mend = "start it again, or remove it with CLUSTER FORGET"
    return [fail(CLUSTER, f"node {node.address} has failed", mend) for node in state.nodes if node.failed]


def _replicated(state: ClusterState) -> list[Finding]:
    masters, found = len(state.shards), []
    for node, shards in state.shards.items():
        if not shards:
            continue
        has = f"{node.address} has {_named(shards) if len(state.places) > 1 else 'the store'}"
        if not (replicas := state.replicas(node)):
            what = f"{has} and no replica: if it is lost, its users are answered 503 until it is back"
            found.append(fail(CLUSTER, what, "add a replica: `redis-cli --cluster add-node … --cluster-slave`"))
        elif masters < 3:
            what = f"{has}, and only {masters} masters serve slots: one alone cannot elect a replica"
            found.append(fail(CLUSTER, what, "let at least three masters serve slots, on three hosts"))
        else:
            names = ", ".join(each.address for each in replicas)
            found.append(ok(CLUSTER, f"{has}; {names} takes over if it is lost"))
    return found


def _even(state: ClusterState) -> list[Finding]:
    """Finds masters that have more shards than others. With equal ranges of slots each has as many, or one more."""
    counts = {node.address: len(shards) for node, shards in state.shards.items()}
    most = -(-len(state.places) // len(counts)) + 1
    if len(state.places) < len(counts) or (min(counts.values()) > 0 and max(counts.values()) <= most):
        return []
    told = ", ".join(f"{address} has {count}" for address, count in counts.items())
    mend = 'move slots of shards from those that have most: docs/operators/scale.md, "More masters"'
    return [warn(CLUSTER, f"shards lie unevenly on the masters: {told}", mend)]


def _named(shards: list[int]) -> str:
    return f"shard{'s' if len(shards) > 1 else ''} {', '.join(map(str, shards))}"


def _quick(state: ClusterState) -> list[Finding]:
    if state.timeout is None or state.timeout <= MAX_TIMEOUT_MS:
        return []
    what = (
        f"cluster-node-timeout is {state.timeout / 1000:g} s: hooks are answered 503 for so long after a node is lost"
    )
    return [warn(CLUSTER, what, "set cluster-node-timeout 5000 on every node")]


def _alike(state: ClusterState) -> list[Finding]:
    products = sorted({redis_servers.product(each) for each in state.states.values() if isinstance(each, NodeState)})
    if len(products) < 2:
        return []
    return [warn(CLUSTER, f"its nodes run {', '.join(products)}", "run one version on all nodes")]


def _nodes(state: ClusterState) -> list[Finding]:
    """Finds what is wrong with each of the other nodes, any of which may have the store some day."""
    found = []
    home = state.places[0]
    for address, node in state.states.items():
        if not isinstance(node, NodeState):
            found.append(fail(f"Redis {address}", f"does not answer: {node}", "check this node"))
        elif home is None or address != home.address:
            examined = redis_servers.examine(f"Redis {address}", node)
            found += [finding for finding in examined if finding.state is not CheckState.OK]
    return found
