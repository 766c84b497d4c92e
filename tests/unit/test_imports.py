"""Which room may know which: imports go one way, and in no circle."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("hooks/**/*.py"), *ROOT.glob("store/**/*.py"), *ROOT.glob("clients/python/emqx_im_client/*.py")]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[0] == "clients" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES if "rules/trusted" not in str(file)}


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields all of them, also those that only a type checker reads."""
    for statement in body:
        yield statement
        for inner in ("body", "orelse", "finalbody"):
            yield from statements(getattr(statement, inner, []))


def all_imports(module: str) -> set[str]:
    """Returns all modules that a module imports, anywhere in it."""
    found = set[str]()
    for statement in statements(ast.parse(MODULES[module].read_text()).body):
        if isinstance(statement, ast.Import):
            found.update(each.name for each in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module is not None:
            inner = {f"{statement.module}.{each.name}" for each in statement.names}
            found.update(each if each in MODULES else statement.module for each in inner)
    return found - {module}


IMPORTED = {module: all_imports(module) for module in MODULES}
GRAPH = {module: {each for each in imported if each in MODULES} for module, imported in IMPORTED.items()}
"""The project's own modules that each imports."""


def room(module: str) -> str:
    """Returns the folder of a module, its subfolders included: `hooks.emqx`, `store.archive`; `hooks` for what stands
    above.
    """
    folder = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return ".".join(folder.split(".")[:2])


def test_no_circle_between_files() -> None:
    TopologicalSorter(GRAPH).prepare()


def test_no_circle_between_rooms() -> None:
    rooms: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        rooms.setdefault(room(module), set()).update({room(each) for each in imported} - {room(module)})
    TopologicalSorter(rooms).prepare()


@pytest.mark.parametrize(
    ("top", "known"),
    [("store", {"store"}), ("emqx_im_client", {"emqx_im_client"}), ("hooks", {"hooks", "store", "emqx_im_client"})],
)
def test_who_knows_whom(top: str, known: set[str]) -> None:
    for module, imported in GRAPH.items():
        if module.split(".")[0] == top:
            assert {each.split(".")[0] for each in imported} <= known, module


def test_the_client_depends_on_what_it_imports_and_on_nothing_else() -> None:
    """It is installed by itself, where nothing of the server's is."""
    project = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", each)[0] for each in project["dependencies"]}
    tops = {each.split(".")[0] for module in MODULES if room(module) == "emqx_im_client" for each in IMPORTED[module]}
    # paho comes with aiomqtt, which is a wrapper around it.
    assert tops - sys.stdlib_module_names - {"emqx_im_client", "paho"} == declared


def test_chat_alone_uses_the_client() -> None:
    client = {module for module in MODULES if module.startswith("emqx_im_client")}
    users = {module for module, imported in GRAPH.items() if imported & client} - client
    assert users == {f"hooks.cli.chat.{name}" for name in ("command", "conversation", "states")}


def test_the_broker_of_dev_knows_the_store_only_through_the_service() -> None:
    known = {"store.private_files", "store.workers"}
    for module, imported in GRAPH.items():
        if module.startswith("hooks.dev"):
            assert {each for each in imported if each.startswith("store.")} <= known, module


def test_drivers_of_databases_are_the_store_s_alone() -> None:
    drivers = {"redis", "hiredis", "asyncmy", "aiosqlite", "sqlite3"}
    users = {module for module, imported in IMPORTED.items() if {each.split(".")[0] for each in imported} & drivers}
    assert users
    assert {module.split(".")[0] for module in users} == {"store"}


def test_connections_to_redis_are_made_where_parts_are_put_together() -> None:
    """Everything else is handed objects of the store. The settings only look whether an address is one."""
    connections = {"store.redis.client", "store.redis.connection"}
    users = {module for module, imported in GRAPH.items() if module.startswith("hooks") and imported & connections}
    rooms = {room(module) for module in users - {"hooks.setting_types"}}
    assert rooms <= {"hooks.server", "hooks.cli", "hooks.doctor"}, users
