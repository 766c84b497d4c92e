import pytest

from hooks.dev.topics import matches, valid_filter, valid_name


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("single/1", "single/1", True),
        ("single/1", "single/+", True),
        ("single/1/x", "single/+", False),
        ("single", "single/+", False),
        ("single", "single/#", True),
        ("single/1/x", "#", True),
        ("$SYS/a", "#", False),
        ("$SYS/a", "+/a", False),
        ("$SYS/a", "$SYS/#", True),
        ("/a", "+/a", True),
        ("a/", "a/+", True),
        ("a", "a/", False),
        # A SUBSCRIBE's filter judged by a rule's filter.
        ("single/+", "single/1", False),
        ("single/+", "single/+", True),
        ("single/#", "single/+", True),
        ("#", "single/+", False),
    ],
)
def test_matches(name: str, pattern: str, expected: bool) -> None:
    assert matches(name, pattern) is expected


def test_names_have_no_wildcards_and_filters_have_them_alone_in_a_level() -> None:
    assert valid_name("single/1")
    assert not any(map(valid_name, ["", "a/+", "a#", "a\0b", "x" * 65_536, "/" * 128]))
    assert all(map(valid_filter, ["#", "+", "a/+/b", "a/#", "/"]))
    assert not any(map(valid_filter, ["", "a/#/b", "a/b+", "#a", "a\0b"]))
