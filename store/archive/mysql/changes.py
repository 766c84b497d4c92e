"""When groups and tags changed last, in MySQL."""

from collections.abc import Sequence
from typing import Any

from store.archive.mysql.rows import write_rows
from store.archive.tables.changes import Change
from store.archive.tables.sql import queries

_QUERIES = queries("mysql")


async def write_changes(cursor: Any, changes: Sequence[Change]) -> None:
    await write_rows(cursor, _QUERIES["store_change"], [(channel.encode(), changed) for channel, changed in changes])
