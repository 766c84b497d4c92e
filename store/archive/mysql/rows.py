"""INSERTs of many rows, bound to a prepared statement where the server takes them so: MariaDB does, MySQL does not.

Then nobody writes values as SQL, and nobody reads them: that was half of what a row cost here and in MariaDB.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from asyncmy import errors

from store.errors import ArchiveRefused

STATEMENT_BYTES = 1024 * 1024
"""The size of one statement, unless a row alone is larger: far below the least `max_allowed_packet`."""
_VALUE_BYTES = 16
"""The bytes that a value counts for beside its own."""
_NUMBERS = 2**63

Row = tuple[bytes | int, ...]


async def write_rows(cursor: Any, query: str, rows: Sequence[Row]) -> None:
    """Runs `INSERT … VALUES (%s, …) …` for all rows, in as many statements as that takes.

    rows: of bytes and numbers, a column all of one. Raises ArchiveRefused for a number that no column takes.
    """
    if not rows:
        return
    statement = await cursor.connection.prepare(query.replace("%s", "?"))
    try:
        for part in _parts(rows):
            await statement.execute_bulk(part)
    except errors.NotSupportedError:
        await cursor.executemany(query, rows)
    await statement.close()


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yields the rows, of which there are some, cut into parts of at most STATEMENT_BYTES, or of one row."""
    begin, size = 0, 0
    for end, row in enumerate(rows):
        row_size = _size(row)
        if end > begin and size + row_size > STATEMENT_BYTES:
            yield rows[begin:end]
            begin, size = end, 0
        size += row_size
    yield rows[begin:]


def _size(row: Row) -> int:
    size = len(row) * _VALUE_BYTES
    for value in row:
        if isinstance(value, bytes):
            size += len(value)
        elif not -_NUMBERS <= value < _NUMBERS:
            # The driver would send it without its sign, and another number would be stored.
            raise ArchiveRefused(f"{value} is out of range")
    return size
