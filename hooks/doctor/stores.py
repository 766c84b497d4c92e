"""Checks Redis and the archive."""

from hooks.doctor import Finding, clock, cluster, fail, ok, redis_servers, warn
from store.archive.archive import open_archive
from store.errors import ArchiveAway, ArchiveRefused, StoreAway
from store.operations.cluster_health import cluster_state
from store.operations.health import ArchiveState, RedisState, archive_state, redis_state
from store.operations.shard_states import ShardState, ShardStates
from store.redis.shards import connect_each, resolvers

REDIS, ARCHIVE = "Redis", "archive"

OLDEST = {"mysql": (8, 0), "mariadb": (10, 11)}
_NAMES = {"mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite"}
_MIGRATE = "run `emqx-im migrate`"
_SECONDS = 5.0
"""For a server of Redis to answer."""
_WAITS_SECONDS = 10.0
"""What a link may wait for: it is looked at each second."""


async def redis(url: str, shards: int = 1) -> list[Finding]:
    """Checks the server or the cluster, and the store in it. shards: how many there are to be."""
    nodes = resolvers(url, shards)
    clients = connect_each(nodes, timeout=_SECONDS)
    home = clients.home
    try:
        state = await redis_state(home, shards)
        found = cluster.examine(await cluster_state(home, nodes, seconds=_SECONDS)) if state.server.cluster else []
        if state.epoch and not state.unknown:
            found += _shards(await ShardStates(clients).look())
    except StoreAway as error:
        return [
            fail(
                REDIS,
                f"does not answer: {error}",
                "check Redis and IM_REDIS_URL; without it every hook is answered 503",
            )
        ]
    finally:
        for each in (*clients, *nodes):
            await each.aclose()
    return [*redis_servers.examine(REDIS, state.server), *_store(state), *found]


def _shards(states: list[ShardState]) -> list[Finding]:
    found = []
    for state in states:
        subject = f"shard {state.shard}"
        if state.away:
            mend = "check the node that has it; until then its users' pulls are answered 503, and messages to them wait"
            found.append(fail(subject, f"does not answer: {state.away}", mend))
        elif state.waits > _WAITS_SECONDS:
            mend = "start the service; if it runs, see `worker_failed` with `links` in its log"
            found.append(fail(subject, f"{state.waits:.0f} s old entries of its link are not applied", mend))
    if states and not found:
        found.append(ok(REDIS, f"all {len(states) + 1} shards have what the home has written"))
    return found


def _store(state: RedisState) -> list[Finding]:
    if state.server.replica:
        return [fail(REDIS, "this is a replica", "set IM_REDIS_URL to the primary")]
    if state.unknown:
        mend = "run that version, or set IM_REDIS_URL to an empty Redis, which is rebuilt from the archive"
        return [fail(REDIS, state.unknown, mend)]
    if state.earlier:
        mend = "start the service: it converts the store; processes of that version are answered 503 from then on"
        return [warn(REDIS, "holds a store in the layout of an earlier version", mend)]
    if not state.epoch:
        mend = "start the service: it rebuilds Redis from the archive; until then every hook is answered 503"
        return [warn(REDIS, "is empty: it has no epoch", mend)]
    return []


async def archive(url: str) -> list[Finding]:
    opened = open_archive(url)
    try:
        state = await archive_state(opened)
    except (ArchiveAway, ArchiveRefused) as error:
        return [
            fail(
                ARCHIVE,
                f"does not answer: {error}",
                "check the database and IM_ARCHIVE_URL; meanwhile the outbox in Redis grows",
            )
        ]
    finally:
        await opened.close()
    return [*_version(state), *_schema(state), *([clock(ARCHIVE, state.offset)] if state.version else [])]


def _version(state: ArchiveState) -> list[Finding]:
    name = _NAMES[state.product]
    if not state.version:
        return [
            warn(ARCHIVE, f"{name} is for one machine only", "use MySQL or MariaDB for more: IM_ARCHIVE_URL=mysql://…")
        ]
    version = ".".join(map(str, state.version))
    if state.version < OLDEST[state.product]:
        return [
            fail(
                ARCHIVE,
                f"{name} {version} is too old",
                f"upgrade to {name} {'.'.join(map(str, OLDEST[state.product]))} or newer",
            )
        ]
    return [ok(ARCHIVE, f"{name} {version}")]


def _schema(state: ArchiveState) -> list[Finding]:
    if state.pending:
        return [fail(ARCHIVE, f"its schema is not up to date, these are missing: {', '.join(state.pending)}", _MIGRATE)]
    if state.missing:
        return [
            warn(
                ARCHIVE, f"has no partitions for {', '.join(state.missing)}", f"{_MIGRATE}, or leave it to the service"
            )
        ]
    return [ok(ARCHIVE, "its schema" + (" and partitions are up to date" if state.version else " is up to date"))]
