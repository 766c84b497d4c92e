"""The two READMEs, held to each other: headings, commands and links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"


def without_fences(page: str) -> str:
    """Returns the text of a page without its fenced blocks: the diagram and the JSON are no commands."""
    return re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)


def headings(page: str) -> list[int]:
    """Returns the levels of a page's headings, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", without_fences(page), re.M)]


def commands(page: str) -> list[str]:
    """Returns the command lines of a page (lines that are indented by four), without their comments."""
    lines = re.findall(r"^    (.+)$", without_fences(page), re.M)
    return [re.sub(r"\s+#\s.*", "", line) for line in lines]


def test_both_have_the_same_headings() -> None:
    assert len(headings(ENGLISH)) > 4
    assert headings(CHINESE) == headings(ENGLISH)


def test_both_have_the_same_commands_in_the_same_order() -> None:
    english = commands(ENGLISH)
    assert {"make run", "make test", "emqx-im serve", "deploy/init"} <= set(english)
    assert commands(CHINESE) == english


@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_links_of_the_readmes_lead_somewhere(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text()) if "://" not in link]
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []


def test_both_lead_to_the_same_pages_and_to_each_other() -> None:
    linked = {page: set(re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text())) for page in (ENGLISH, CHINESE)}
    assert linked[ENGLISH] - {CHINESE} == linked[CHINESE] - {ENGLISH}
