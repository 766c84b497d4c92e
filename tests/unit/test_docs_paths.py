"""Files that the documents for contributors name are there, and so are the names said to be in them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "docs/design.md", "docs/glossary.md", "emqx-rules/README.md")

FILE = re.compile(r"`((?:[A-Za-z_.*-]+/)+(?:[A-Za-z_*-]+\.[a-z]+)?)`")
"""A folder, which ends with a slash, or a file with its folder."""
NAME_IN_FILE = re.compile(r"`([A-Za-z_]\w+)` (?:in|of) `([a-z_/]+\.[a-z]+)`")

BESIDE = (
    "",
    "store/redis",
    "store/redis/lua",
    "store/archive",
    "store/archive/*",
    "hooks/emqx",
    "tests",
    "emqx-rules",
    "hooks/console/pages",
)
"""Folders in which a page may say less than the whole path."""
TO_COME = {"store/archive/postgresql/"}

TOPICS = ("business/", "single/", "group/", "send/", "im/")


def paths(path: str) -> list[Path]:
    return [found for folder in BESIDE for found in ROOT.glob(f"{folder}/{path}".strip("/"))]


def missing(text: str) -> list[str]:
    return sorted(
        {path for path in FILE.findall(text) if path not in TO_COME and not path.startswith(TOPICS) and not paths(path)}
    )


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    assert missing((ROOT / page).read_text()) == []


@pytest.mark.parametrize("page", PAGES)
def test_names_that_a_page_places_in_a_file_are_in_it(page: str) -> None:
    found = NAME_IN_FILE.findall((ROOT / page).read_text())
    placed = [(name, file) for name, file in found if not name.startswith("IM_")]
    assert [(name, file) for name, file in placed if not any(name in each.read_text() for each in paths(file))] == []


@pytest.mark.parametrize("text", ["`hooks/nowhere/`", "`store/workers.txt`", "`store/redis/lua/none.lua`"])
def test_a_file_that_is_not_there_is_found(text: str) -> None:
    assert len(missing(text)) == 1
