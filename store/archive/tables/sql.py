"""SQL lives in files: named queries in `<backend>/queries.sql`, migrations in `<backend>/schema/`."""

import re
import time
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_NAME = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_END = re.compile(r";\s*$", re.MULTILINE)
_FILE = re.compile(r"(\d{3})_(\w+)\.sql")


class Migration(NamedTuple):
    """One file. In MySQL its statements can be run twice: a process may die before it has noted that they ran."""

    version: int
    name: str
    statements: tuple[str, ...]


@cache
def queries(backend: str) -> dict[str, str]:
    """Returns queries by name, without comments."""
    text = files("store.archive").joinpath(backend, "queries.sql").read_text()
    _, *parts = _NAME.split(text)
    return {name: _COMMENT.sub("", part).strip() for name, part in zip(parts[::2], parts[1::2], strict=True)}


@cache
def migrations(backend: str) -> tuple[Migration, ...]:
    """Returns all of them, in the order in which they are applied. Statements end with `;` at the end of a line."""
    found = []
    for file in files("store.archive").joinpath(backend, "schema").iterdir():
        if match := _FILE.fullmatch(file.name):
            parts = (part.strip() for part in _END.split(_COMMENT.sub("", file.read_text())))
            found.append(Migration(int(match[1]), match[0][:-4], tuple(part for part in parts if part)))
    return tuple(sorted(found))


def pending(backend: str, applied: set[int]) -> list[Migration]:
    """Returns the migrations that are not among the applied versions."""
    return [migration for migration in migrations(backend) if migration.version not in applied]


async def migrate(
    backend: str, execute: Callable[..., Awaitable[object]], applied: Callable[[], Awaitable[set[int]]]
) -> list[str]:
    """Applies pending migrations and returns their names. The caller makes sure that nobody else does so meanwhile.

    execute: runs a statement with its arguments. applied: reads the versions that were applied.
    """
    named = queries(backend)
    await execute(named["create_migration"])
    missing = pending(backend, await applied())
    for migration in missing:
        for statement in migration.statements:
            await execute(statement)
        await execute(named["insert_migration"], (migration.version, migration.name, time.time_ns() // 1_000_000))
    return [migration.name for migration in missing]
