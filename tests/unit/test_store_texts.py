"""Tests that texts for clients are written in `hooks/messaging`, and handed to the store."""

import re
from pathlib import Path

import pytest

STORE = Path(__file__).parents[2] / "store"
FILES = [*STORE.rglob("*.py"), *STORE.rglob("*.lua"), *STORE.rglob("*.sql")]
CONTROL_TYPE = re.compile(r"\bim\.(?!db\b)[a-z]+")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(STORE)))
def test_the_store_knows_no_type_of_a_control_message(file: Path) -> None:
    assert CONTROL_TYPE.findall(file.read_text()) == []
