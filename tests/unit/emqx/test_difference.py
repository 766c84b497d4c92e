from typing import Any

import pytest

from hooks.emqx.rules.difference import Difference, differences, has_secret, overlaid, shown


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ("5s", "5000ms"),
        ("1h", "60m"),
        ("64MB", "65536KB"),
        ("128KB", "128kb"),
        (64, "64"),
        (True, "true"),
        ("SELECT\n  a\nFROM b\n", "SELECT a FROM b"),
        ("50/s", "50/1s"),
        ("secret", "******"),
        (["a"], ["a"]),
        ({"sub": "${username}"}, [{"name": "sub", "value": "${username}"}]),
        ({"a": 1}, {"a": 1, "other": 2}),
    ],
)
def test_equal_however_it_is_spelt(wanted: Any, held: Any) -> None:
    assert differences({"key": wanted}, {"key": held}) == []


@pytest.mark.parametrize(("wanted", "held"), [("5s", "6s"), (True, False), ("deny", "allow"), ("5s", 5), ([], None)])
def test_not_equal(wanted: Any, held: Any) -> None:
    assert differences({"key": wanted}, {"key": held}) == [Difference("key", held, wanted)]


def test_each_difference_has_its_path() -> None:
    held = {"a": {"b": 1}, "d": 4}
    assert differences({"a": {"b": 2, "c": 3}, "d": 4}, held) == [Difference("a.b", 1, 2), Difference("a.c", None, 3)]


def test_a_secret_is_never_shown() -> None:
    assert differences({"secret": "mine"}, {"secret": "theirs"}) == [Difference("secret", "******", "******")]
    found = differences({"headers": {"Authorization": "Bearer mine"}}, {"headers": {}})
    assert "mine" not in str(found)
    assert found


def test_has_secret() -> None:
    assert has_secret({"a": [{"headers": {"authorization": "x"}}]})
    assert not has_secret({"a": [{"headers": {"accept": "x"}}]})


def test_overlaid_keeps_what_is_not_named() -> None:
    held = {"a": {"b": 1, "c": 2}, "d": [1], "e": 5}
    assert overlaid(held, {"a": {"b": 9}, "d": [2]}) == {"a": {"b": 9, "c": 2}, "d": [2], "e": 5}
    assert held["a"] == {"b": 1, "c": 2}


def test_stars_are_not_written_back() -> None:
    held = {"bind": "1883", "ssl_options": {"password": "******", "certfile": "c"}}
    assert shown(held) == {"bind": "1883", "ssl_options": {"certfile": "c"}}
