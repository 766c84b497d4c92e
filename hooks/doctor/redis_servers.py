"""Checks one server of Redis, whether it has the store alone or is a node of a cluster."""

from hooks.doctor import Finding, clock, fail, ok, warn
from store.operations.health import NodeState

OLDEST_REDIS = (7, 0)
"""The first with SET … NX GET."""
MIN_PACKED = 128
"""Entries of a sorted set that Redis keeps packed: a piece of an inbox is smaller, but for the busiest users."""
_NAMES = {"redis": "Redis", "valkey": "Valkey"}


def examine(subject: str, state: NodeState) -> list[Finding]:
    checks = (_product, _durable, _roomy, _packed)
    return [*(finding for check in checks for finding in check(subject, state)), clock(subject, state.offset)]


def product(state: NodeState) -> str:
    """Returns what it is called, with its version."""
    return f"{_NAMES[state.product]} {'.'.join(map(str, state.version))}"


def _product(subject: str, state: NodeState) -> list[Finding]:
    if state.version >= OLDEST_REDIS:
        return [ok(subject, product(state))]
    version = ".".join(map(str, state.version))
    return [fail(subject, f"version {version} is too old", "upgrade to Redis 7.0 or Valkey 7.2, or newer")]


def _durable(subject: str, state: NodeState) -> list[Finding]:
    if not state.aof:
        what = "has no AOF: a restart loses messages that were answered 204"
        return [fail(subject, what, "set appendonly yes and appendfsync always")]
    if state.appendfsync not in (None, "always"):
        what = f"appendfsync is {state.appendfsync}: a crash of the host loses the last second"
        return [warn(subject, what, "set appendfsync always")]
    return [
        ok(subject, "has AOF" + (", and every write is on disk before it is answered" if state.appendfsync else ""))
    ]


def _roomy(subject: str, state: NodeState) -> list[Finding]:
    found = []
    if state.eviction != "noeviction":
        what = f"maxmemory-policy is {state.eviction}: timelines vanish silently when memory is short"
        found.append(fail(subject, what, "set maxmemory-policy noeviction, so that writes wait instead"))
    if not state.maxmemory:
        mend = "set maxmemory below the host's memory; IM_OUTBOX_LIMIT is a quarter of it"
        found.append(warn(subject, "has no maxmemory: the kernel may kill it", mend))
    elif state.used > 0.8 * state.maxmemory:
        found.append(warn(subject, f"uses {100 * state.used // state.maxmemory} % of maxmemory", "give it more memory"))
    return found or [ok(subject, f"never evicts, and uses {100 * state.used // state.maxmemory} % of maxmemory")]


def _packed(subject: str, state: NodeState) -> list[Finding]:
    if state.packed is None or state.packed >= MIN_PACKED:
        return []
    what = f"zset-max-listpack-entries is {state.packed}: an entry of an inbox may take five times the memory"
    return [warn(subject, what, f"set zset-max-listpack-entries {MIN_PACKED}, which is the default")]
