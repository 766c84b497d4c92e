"""Regular expressions mean here what they mean in EMQX."""

import pytest

from hooks.dev import EmbeddedError
from hooks.dev.patterns import compiled


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^1\z", "1", True),
        (r"^1\z", "1\n", False),
        (r"^\\z", "\\z", True),
        (r"[$]\$", "$$", True),
        (r"[]$]\z", "]", True),
        (r"[^]]\z", "]", False),
        (r"^[\]$]\z", "$", True),
        (r"^.{2}\z", "é", True),
        (r"^\d\z", "٣", False),
        (r"^\w\z", "é", False),
    ],
)
def test_patterns_are_matched_as_by_pcre_on_bytes(pattern: str, text: str, found: bool) -> None:
    assert (compiled(pattern, "x").search(text.encode()) is not None) is found


@pytest.mark.parametrize("pattern", ["^1$", "$", "(1$|2)", r"^1\Z", r"[a]\\$", "[[:alpha:]]", "(", r"\z\y"])
def test_what_means_something_else_is_refused(pattern: str) -> None:
    with pytest.raises(EmbeddedError, match=r"^x\.sql: "):
        compiled(pattern, "x.sql")
