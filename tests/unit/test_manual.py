"""The operators' manual, as the console shows it: what findings point to is there, and nothing of it is misread."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "hooks" / "console" / "pages" / "docs").glob("*.md"))
FOUND_BY = [ROOT / "hooks" / "api" / "overview.py", *(ROOT / "hooks" / "doctor").glob("*.py")]

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
UNKNOWN = {
    "a list in a list": r"^ +[-*] ",
    "a numbered list": r"^ *\d+\. ",
    "a quotation": r"^>",
    "markup": r"^<",
    "a heading without a line before it": r"[^\n]\n#+ ",
    "an underline": r"^(===|---)",
    "emphasis by underscores": r"(^|\s)_[^_\s]",
}
"""What `page_help.js` does not read."""


def headings(page: Path) -> set[str]:
    """Returns what addresses call the headings of a page."""
    found = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_there_is_a_manual() -> None:
    assert {page.name for page in PAGES} == {page.name for page in (ROOT / "docs" / "operators").glob("*.md")}
    assert "alarms.md" in {page.name for page in PAGES}


def test_each_alarm_that_a_finding_names_has_its_heading() -> None:
    named = {name.lower() for file in FOUND_BY for name in re.findall(r'"(EmqxIm\w+)"', file.read_text())}
    assert named
    assert named <= headings(ROOT / "docs" / "operators" / "alarms.md")


def test_each_page_that_a_finding_names_is_there() -> None:
    named = {
        each for file in FOUND_BY for each in re.findall(r"docs/operators/([\w-]+\.md)(?:#([\w-]+))?", file.read_text())
    }
    assert named
    for name, part in named:
        page = ROOT / "docs" / "operators" / name
        assert page.exists()
        assert not part or part in headings(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_console_can_read_the_page(page: Path) -> None:
    text = FENCED.sub("", page.read_text())
    text = re.sub(r"`[^`]*`", "code", text)
    assert text.startswith("# ")
    assert [name for name, pattern in UNKNOWN.items() if re.search(pattern, text, re.MULTILINE)] == []
