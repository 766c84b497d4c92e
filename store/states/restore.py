"""Puts users' states back from the archive."""

from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any

from store.archive.tables.states import StateRow, StateTables
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.shards import Shards

_RESTORE = script("restore_states", bytes)
_ROWS = 1000


async def restore_states(
    shards: Shards[RedisClient],
    tables: StateTables,
    keep_lock: Callable[[], Awaitable[object]],
    *,
    only: int | None = None,
) -> None:
    """Restores all of them, in the shards of their users, and blocks in the home; or those of `only` one shard beside
    it. What is newer in Redis stays. `keep_lock` is called time and again.

    Raises StoreAway, ArchiveAway.
    """
    after = (0, b"")
    while page := await tables.states(after, _ROWS):
        for redis, rows in shards.parts(page, attrgetter("uid")):
            is_home = redis is shards.home
            if only is not None and redis is not shards[only]:
                continue
            await _restore(redis, rows, is_theirs=True, is_home=is_home)
            blocks = [row for row in rows if not is_home and only is None and row.name.startswith(b"b:")]
            await _restore(shards.home, blocks, is_theirs=False, is_home=True)
        await keep_lock()
        after = page[-1][:2]


async def _restore(redis: RedisClient, rows: Sequence[StateRow], *, is_theirs: bool, is_home: bool) -> None:
    arguments: list[Any] = []
    for row in rows:
        arguments += (row.uid, row.name, row.changed, row.value)
    if arguments:
        await _RESTORE.run(redis, more_arguments=arguments, is_theirs=int(is_theirs), is_home=int(is_home))
