"""Checks Redis and the archive."""

from hooks.doctor import Finding, clock, fail, ok, warn
from store.archive.archive import open_archive
from store.errors import ArchiveAway, ArchiveRefused, StoreAway
from store.operations.health import ArchiveState, RedisState, archive_state, redis_state
from store.redis.connection import connect

REDIS, ARCHIVE = "Redis", "archive"

OLDEST_REDIS = (7, 0)
"""The first with SET … NX GET."""
MIN_PACKED = 128
"""Entries of a sorted set that Redis keeps packed: an inbox of a span is smaller, but for the busiest users."""
OLDEST = {"mysql": (8, 0), "mariadb": (10, 11)}
_NAMES = {"mysql": "MySQL", "mariadb": "MariaDB", "sqlite": "SQLite", "redis": "Redis", "valkey": "Valkey"}
_MIGRATE = "run `emqx-im migrate`"


async def redis(url: str) -> list[Finding]:
    client = connect(url, timeout=5)
    try:
        state = await redis_state(client)
    except StoreAway as error:
        return [
            fail(
                REDIS,
                f"does not answer: {error}",
                "check Redis and IM_REDIS_URL; without it every hook is answered 503",
            )
        ]
    finally:
        await client.aclose()
    return [*_product(state), *_durable(state), *_roomy(state), *_packed(state), clock(REDIS, state.offset)]


def _product(state: RedisState) -> list[Finding]:
    version = ".".join(map(str, state.version))
    found = []
    if state.version < OLDEST_REDIS:
        found.append(fail(REDIS, f"version {version} is too old", "upgrade to Redis 7.0 or Valkey 7.2, or newer"))
    else:
        found.append(ok(REDIS, f"{_NAMES[state.product]} {version}"))
    if state.replica:
        found.append(fail(REDIS, "this is a replica", "set IM_REDIS_URL to the primary"))
    if state.unknown:
        mend = "run that version, or set IM_REDIS_URL to an empty Redis, which is rebuilt from the archive"
        found.append(fail(REDIS, state.unknown, mend))
    elif state.earlier:
        mend = "start the service: it converts the store; processes of that version are answered 503 from then on"
        found.append(warn(REDIS, "holds a store in the layout of an earlier version", mend))
    elif not state.epoch:
        mend = "start the service: it rebuilds Redis from the archive; until then every hook is answered 503"
        found.append(warn(REDIS, "is empty: it has no epoch", mend))
    return found


def _durable(state: RedisState) -> list[Finding]:
    if not state.aof:
        return [
            fail(
                REDIS,
                "has no AOF: a restart loses messages that were answered 204",
                "set appendonly yes and appendfsync always",
            )
        ]
    if state.appendfsync not in (None, "always"):
        what = f"appendfsync is {state.appendfsync}: a crash of the host loses the last second"
        return [warn(REDIS, what, "set appendfsync always")]
    return [ok(REDIS, "has AOF" + (", and every write is on disk before it is answered" if state.appendfsync else ""))]


def _roomy(state: RedisState) -> list[Finding]:
    found = []
    if state.eviction != "noeviction":
        what = f"maxmemory-policy is {state.eviction}: timelines vanish silently when memory is short"
        found.append(fail(REDIS, what, "set maxmemory-policy noeviction, so that writes wait instead"))
    if not state.maxmemory:
        mend = "set maxmemory below the host's memory; IM_OUTBOX_LIMIT is a quarter of it"
        found.append(warn(REDIS, "has no maxmemory: the kernel may kill it", mend))
    elif state.used > 0.8 * state.maxmemory:
        found.append(warn(REDIS, f"uses {100 * state.used // state.maxmemory} % of maxmemory", "give it more memory"))
    return found or [ok(REDIS, f"never evicts, and uses {100 * state.used // state.maxmemory} % of maxmemory")]


def _packed(state: RedisState) -> list[Finding]:
    if state.packed is None or state.packed >= MIN_PACKED:
        return []
    what = f"zset-max-listpack-entries is {state.packed}: an entry of an inbox may take five times the memory"
    return [warn(REDIS, what, f"set zset-max-listpack-entries {MIN_PACKED}, which is the default")]


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
