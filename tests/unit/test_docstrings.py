"""A public docstring says what is done: it begins with a verb, `Returns …`.

In `hooks/cli` it may be the help text of a command, and begin with `Show …`.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.unit.test_imports import MODULES

NOT_FUNCTIONS = {"store.redis.keys"}
"""Each of its docstrings describes what lies at the key: `Sorted set: …`."""
NOUNS = {"Admins", "Channels", "Features", "Files", "Groups", "Heads", "Holders", "Ids", "Letters", "Lines", "Members"}
NOUNS |= {"Memberships", "Messages", "Milliseconds", "Names", "Rows", "Seconds", "Tags", "Users", "Workers"}
VERB = re.compile(r"([A-Z][a-z]+s)\b(?!:)")
COMMAND = re.compile(r"([A-Z][a-z]+)\b(?!:)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node


def wrong(module: str) -> Iterator[str]:
    for function in public_functions(ast.parse(MODULES[module].read_text()).body):
        docstring = ast.get_docstring(function)
        if docstring is None:
            continue
        verb = (COMMAND if module.startswith("hooks.cli.") else VERB).match(docstring)
        if verb is None or verb[1] in NOUNS:
            yield f"{module}.{function.name}, line {function.lineno}: {docstring.splitlines()[0]}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - NOT_FUNCTIONS))
def test_public_docstrings_begin_with_a_verb(module: str) -> None:
    assert list(wrong(module)) == []


def test_a_docstring_without_a_verb_is_found() -> None:
    good, bad = "Returns it.", ("To the group.", "share: whose it is.", "Members of a group.", "`head` of each.")
    assert all(VERB.match(text) is None or text.split()[0] in NOUNS for text in bad)
    assert VERB.match(good)
