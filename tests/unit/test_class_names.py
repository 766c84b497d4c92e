"""No two public classes have the same name, unless docs/glossary.md says why."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("hooks", "store", "clients/python")


def files_of_classes() -> dict[str, set[str]]:
    """Returns each public class of a module's top level, with the files it is in."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, set()).add(str(path.relative_to(ROOT)))
    return found


def reasoned() -> dict[str, set[str]]:
    """Returns the names of the glossary's table, each with the files and folders that have a class of that name."""
    _, _, table = (ROOT / "docs" / "glossary.md").read_text().partition("## One name, two classes")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert all(reason for _, _, reason in rows)
    return {name.strip("`"): set(re.findall(r"`([^`]+)`", where)) for name, where, _ in rows}


def test_two_classes_of_one_name_have_a_reason() -> None:
    rows = reasoned()
    several = {name: files for name, files in files_of_classes().items() if len(files) > 1}
    assert rows.keys() == several.keys(), (
        "rename one, or say in docs/glossary.md why; and delete rows of one class alone"
    )
    for name, files in several.items():
        for place in rows[name]:
            assert sum(file.startswith(place) for file in files) == 1, f"{name}: {place} has one of {sorted(files)}"
        assert all(any(file.startswith(place) for place in rows[name]) for file in files), f"{name}: {sorted(files)}"
