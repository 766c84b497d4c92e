"""Redis and the archive."""

from hooks.doctor import Finding, clock, fail, ok, warn
from store.archive.archive import open_archive
from store.errors import ArchiveAway, ArchiveRefused, StoreAway
from store.operations.health import ArchiveState, RedisState, archive_state, redis_state
from store.redis.connection import connect

REDIS, ARCHIVE = "Redis", "archive"

OLDEST_REDIS = (7, 0)
"""The first with SET … NX GET."""
OLDEST = {"mysql": (8, 0), "mariadb": (10, 11)}
_NAMES = {"mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite", "redis": "Redis", "valkey": "Valkey"}
_MIGRATE = "emqx-im migrate"


async def redis(url: str) -> list[Finding]:
    client = connect(url, timeout=5)
    try:
        state = await redis_state(client)
    except StoreAway as error:
        return [fail(REDIS, f"does not answer: {error}", "IM_REDIS_URL; without it every hook is answered 503")]
    finally:
        await client.aclose()
    return [*_product(state), *_durable(state), *_roomy(state), clock(REDIS, state.offset)]


def _product(state: RedisState) -> list[Finding]:
    version = ".".join(map(str, state.version))
    found = []
    if state.version < OLDEST_REDIS:
        found.append(fail(REDIS, f"version {version}", "Redis 7.0 or Valkey 7.2, or newer"))
    else:
        found.append(ok(REDIS, f"{_NAMES[state.product]} {version}"))
    if state.replica:
        found.append(fail(REDIS, "this is a replica", "IM_REDIS_URL must lead to the primary"))
    if not state.epoch:
        mend = "start the service: it rebuilds Redis from the archive. In between every hook is answered 503"
        found.append(warn(REDIS, "is empty: it holds no epoch", mend))
    return found


def _durable(state: RedisState) -> list[Finding]:
    if not state.aof:
        return [fail(REDIS, "no AOF: a restart loses what was answered 204", "appendonly yes, appendfsync always")]
    if state.appendfsync not in (None, "always"):
        what = f"appendfsync {state.appendfsync}: a crash of the host loses the last second"
        return [warn(REDIS, what, "appendfsync always")]
    return [ok(REDIS, "AOF" + (", every write on disk before it is answered" if state.appendfsync else ""))]


def _roomy(state: RedisState) -> list[Finding]:
    found = []
    if state.eviction != "noeviction":
        what = f"maxmemory-policy {state.eviction}: timelines vanish silently when memory is short"
        found.append(fail(REDIS, what, "maxmemory-policy noeviction: then writes wait instead"))
    if not state.maxmemory:
        mend = "set maxmemory below the host's memory; IM_OUTBOX_LIMIT is a quarter of it"
        found.append(warn(REDIS, "no maxmemory: the kernel may kill it", mend))
    elif state.used > 0.8 * state.maxmemory:
        found.append(warn(REDIS, f"uses {100 * state.used // state.maxmemory} % of maxmemory", "give it more memory"))
    return found or [ok(REDIS, f"noeviction, {100 * state.used // state.maxmemory} % of maxmemory used")]


async def archive(url: str) -> list[Finding]:
    opened = open_archive(url)
    try:
        state = await archive_state(opened)
    except (ArchiveAway, ArchiveRefused) as error:
        return [fail(ARCHIVE, f"does not answer: {error}", "IM_ARCHIVE_URL; meanwhile the outbox in Redis grows")]
    finally:
        await opened.close()
    return [*_version(state), *_schema(state), *([clock(ARCHIVE, state.offset)] if state.version else [])]


def _version(state: ArchiveState) -> list[Finding]:
    name = _NAMES[state.product]
    if not state.version:
        return [warn(ARCHIVE, f"{name}: for one machine", "MySQL or MariaDB for more: IM_ARCHIVE_URL=mysql://…")]
    version = ".".join(map(str, state.version))
    if state.version < OLDEST[state.product]:
        return [fail(ARCHIVE, f"{name} {version}", f"{name} {'.'.join(map(str, OLDEST[state.product]))} or newer")]
    return [ok(ARCHIVE, f"{name} {version}")]


def _schema(state: ArchiveState) -> list[Finding]:
    if state.pending:
        return [fail(ARCHIVE, f"schema is behind: {', '.join(state.pending)}", _MIGRATE)]
    if state.missing:
        return [
            warn(ARCHIVE, f"no partitions for {', '.join(state.missing)}", f"{_MIGRATE}, or leave it to the service")
        ]
    return [ok(ARCHIVE, "schema" + (" and partitions are up to date" if state.version else " is up to date"))]
