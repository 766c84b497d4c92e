"""Errors of the drivers stay in the few modules that talk to them: everybody else knows those of `store.errors`."""

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_imports import MODULES

DRIVERS = {
    "redis": {f"store.redis.{name}" for name in ("client", "connection", "keys", "resolver")},
    "hiredis": {"store.redis.pipelined"},
    "asyncmy": {"store.archive.mysql.connections", "store.archive.mysql.rows"},
    "sqlite3": {"store.archive.sqlite.connection"},
    "aiosqlite": {f"store.archive.sqlite.{name}" for name in ("archive", "blocks", "connection")},
}
"""The modules that import each."""

FILES = {"store.private_files"}
"""Modules of the store whose OSErrors are those of files."""

TRANSLATING = {"store.redis.client", "store.archive.mysql.connections", "store.archive.sqlite.connection"}


def imported(tree: ast.Module) -> set[str]:
    """Returns the distributions, or parts of the standard library, that a module imports anywhere in it."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


def named(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


TREES = {module: ast.parse(file.read_text()) for module, file in MODULES.items()}


@pytest.mark.parametrize("driver", DRIVERS)
def test_few_modules_import_a_driver(driver: str) -> None:
    assert {module for module, tree in TREES.items() if driver in imported(tree)} == DRIVERS[driver]


def test_no_other_module_of_the_store_catches_what_a_connection_raises() -> None:
    names = {"OSError", "ConnectionError", "RedisError", "MySQLError"}
    users = {module for module, tree in TREES.items() if module.startswith("store.") and names & set(named(tree))}
    assert users == TRANSLATING | FILES


def test_only_connections_know_what_the_driver_of_redis_raises() -> None:
    users = {module for module, tree in TREES.items() if "DRIVER_ERRORS" in set(named(tree))}
    assert users == {"store.redis.client"}
