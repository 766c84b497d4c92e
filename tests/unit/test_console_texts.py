"""The texts of the console: every language has all of them, and the pages ask for no other."""

import json
import re
from pathlib import Path

PAGES = Path(__file__).parents[2] / "hooks" / "console" / "pages"
TEXTS = {path.stem: json.loads(path.read_text()) for path in (PAGES / "texts").glob("*.json")}
SCRIPTS = "".join(path.read_text() for path in PAGES.glob("*.js"))


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    assert set(TEXTS) == {"en", "zh"}
    assert TEXTS["en"].keys() == TEXTS["zh"].keys()
    for name, text in TEXTS["en"].items():
        values = sorted(re.findall(r"\{\w+\}", text))
        assert values == sorted(re.findall(r"\{\w+\}", TEXTS["zh"][name])), name
        assert text
        assert TEXTS["zh"][name]


def test_the_pages_ask_for_texts_that_are_there_and_for_all_of_them() -> None:
    asked = set(re.findall(r"\bt\('(\w+)'", SCRIPTS))
    assert asked <= TEXTS["en"].keys()
    chosen = set(re.findall(r"'(\w+)'", SCRIPTS))
    begun = tuple(re.findall(r"\bt\(`(\w+_)\$", SCRIPTS))
    assert [name for name in TEXTS["en"] if name not in asked | chosen and not name.startswith(begun)] == []


def test_nothing_is_loaded_from_elsewhere_and_no_markup_is_made() -> None:
    for path in [*PAGES.glob("*.js"), *PAGES.glob("*.html"), *PAGES.glob("*.css")]:
        text = path.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), path.name
        assert not re.search(r"<[^>]*\s(on\w+|style)=", text) or path.suffix != ".html", path.name
