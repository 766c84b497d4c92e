import re
from pathlib import Path

import pytest

import store.archive
from store.archive.tables.sql import migrations, queries

BACKENDS = ("mysql", "sqlite")


@pytest.mark.parametrize("backend", BACKENDS)
def test_queries_are_loaded_without_comments(backend: str) -> None:
    found = queries(backend)
    assert found["oldest_id"] == "SELECT MIN(id) FROM message"
    assert all(query and "--" not in query and not query.endswith(";") for query in found.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_query_is_used_and_every_used_query_exists(backend: str) -> None:
    folder = Path(store.archive.__file__).parent
    source = "".join(file.read_text() for file in (*(folder / backend).glob("*.py"), folder / "tables" / "sql.py"))
    assert set(re.findall(r'(?:_QUERIES|named)\["(\w+)"\]', source)) == set(queries(backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_migrations_are_numbered_from_one_without_gaps(backend: str) -> None:
    assert [migration.version for migration in migrations(backend)] == list(range(1, len(migrations(backend)) + 1))


def test_both_backends_have_the_same_migrations() -> None:
    assert [m.name for m in migrations("mysql")] == [m.name for m in migrations("sqlite")]


def test_a_file_is_split_into_its_statements() -> None:
    first = migrations("sqlite")[0]
    assert first.name == "001_message"
    assert [statement.split("(")[0].split()[0:2] for statement in first.statements] == [
        ["CREATE", "TABLE"],
        ["CREATE", "INDEX"],
        ["CREATE", "INDEX"],
    ]
