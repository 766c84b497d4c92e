from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.emqx.rules import hocon
from hooks.emqx.rules.hocon import HoconError


def test_reads_what_the_files_use() -> None:
    text = """
    # a comment
    a.b { c = 1, d = "x # y" }  # another
    a.b.e = infinity
    "f g" = [ bare, "quoted",
      { h = true } ]
    empty {}
    none = []
    """
    assert hocon.read(text, "t") == {
        "a": {"b": {"c": 1, "d": "x # y", "e": "infinity"}},
        "f g": ["bare", "quoted", {"h": True}],
        "empty": {},
        "none": [],
    }


def test_objects_of_one_name_are_one() -> None:
    assert hocon.read('a { b = 1 }\na { c = "${x}" }', "t") == {"a": {"b": 1, "c": "${x}"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = ${b}", "t line 1"),
        ("a = 1\nb = {\n", "t line 3: not understood: the end"),
        ("a = 1\n}", "t line 2: not understood: }"),
        ("a 1", "t line 1: not understood: 1"),
        ("a = ", "not understood: the end"),
        ('a = "open', "t line 1"),
        ("a = [1", "the end"),
    ],
)
def test_refuses_the_rest_with_file_and_line(text: str, told: str) -> None:
    with pytest.raises(HoconError, match=told.replace("$", r"\$")):
        hocon.read(text, "t")


VALUES = st.recursive(
    st.booleans() | st.integers(0, 2**40) | st.text(st.characters(codec="utf-8", exclude_characters="\n")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=4))
def test_what_is_written_is_read_again(content: dict[str, Any]) -> None:
    assert hocon.read(hocon.write(content), "t") == content


def test_a_text_of_lines_is_written_as_it_is() -> None:
    assert hocon.write({"sql": 'SELECT "x"\nFROM \\ y\n'}) == 'sql = """SELECT "x"\nFROM \\ y\n"""\n'


def test_a_text_that_cannot_stand_between_triple_quotes_is_escaped() -> None:
    assert hocon.write({"a": '"""\n'}) == 'a = "\\"\\"\\"\\n"\n'
