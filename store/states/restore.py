"""Puts users' states back from the archive."""

from collections.abc import Awaitable, Callable
from typing import Any

from store.archive.tables.states import StateTables
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.states.states import MAX_BLOCKS, MAX_MARKS, MAX_SETTINGS

_RESTORE = script("restore_states", bytes)
_ROWS = 1000


async def restore_states(redis: RedisClient, tables: StateTables, keep_lock: Callable[[], Awaitable[object]]) -> None:
    """Restores all of them. What is newer in Redis stays. `keep_lock` is called time and again.

    Raises StoreAway, ArchiveAway.
    """
    after = (0, b"")
    while page := await tables.states(after, _ROWS):
        arguments: list[Any] = []
        for row in page:
            arguments += (row.uid, row.name, row.changed, row.value)
        await _RESTORE.run(
            redis,
            more_arguments=arguments,
            max_marks=MAX_MARKS,
            max_settings=MAX_SETTINGS,
            max_blocks=MAX_BLOCKS,
        )
        await keep_lock()
        after = page[-1][:2]
