"""No two public classes have the same name, unless docs/glossary.md says why."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("hooks", "store", "clients/python")


def files_of_classes() -> dict[str, set[str]]:
    """Each public class of a module's top level, with the files it is in."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, set()).add(str(path.relative_to(ROOT)))
    return found


def reasoned() -> list[tuple[str, set[str]]]:
    """The names of the glossary's table, each with the files or folders that may have a class of that name."""
    _, _, table = (ROOT / "docs" / "glossary.md").read_text().partition("## One name, two classes")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert all(reason for _, _, reason in rows)
    return [
        (name, set(re.findall(r"`([^`]+)`", where))) for names, where, _ in rows for name in re.findall(r"\w+", names)
    ]


def test_two_classes_of_one_name_have_a_reason() -> None:
    rows = reasoned()
    assert rows
    for name, files in files_of_classes().items():
        if len(files) > 1:
            places = {place for named, where in rows if named == name for place in where}
            unnamed = {file for file in files if not any(file.startswith(place) for place in places)}
            assert not unnamed, f"{name}: rename one, or say in docs/glossary.md why {sorted(files)} all have it"
            assert all(sum(file.startswith(place) for file in files) <= 1 for place in places), name
