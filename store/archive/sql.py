"""SQL lives in files: named queries in `sql/<backend>/queries.sql`, migrations in `schema/<backend>/`."""

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_NAME = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)
_FILE = re.compile(r"(\d{3})_(\w+)\.sql")


class Migration(NamedTuple):
    """One file. Its statements can be run twice: a process may die between them and the note that they ran."""

    version: int
    name: str
    statements: tuple[str, ...]


@cache
def queries(backend: str) -> dict[str, str]:
    """Name to query, without the comments."""
    text = files("store").joinpath("sql", backend, "queries.sql").read_text()
    parts = _NAME.split(text)[1:]
    return {name: _COMMENT.sub("", query).strip() for name, query in zip(parts[::2], parts[1::2], strict=True)}


@cache
def migrations(backend: str) -> tuple[Migration, ...]:
    """All of them, in the order in which they are applied. Statements end with `;` at the end of a line."""
    found = []
    for file in files("store").joinpath("schema", backend).iterdir():
        if match := _FILE.fullmatch(file.name):
            statements = re.split(r";\s*$", _COMMENT.sub("", file.read_text()), flags=re.MULTILINE)
            found.append(
                Migration(int(match[1]), file.name.removesuffix(".sql"), tuple(s.strip() for s in statements if s.strip()))
            )
    return tuple(sorted(found))
