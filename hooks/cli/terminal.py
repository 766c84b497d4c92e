"""Gives substitutes to terminals that cannot show every sign, so that no command ends with a traceback for it."""

import codecs
import io
import sys

_SUBSTITUTES = {"✓": "+", "✗": "x", "…": "...", "━": "-"}


def show_substitutes() -> None:
    """Makes stdout and stderr write a substitute for each sign that their encoding does not have."""
    codecs.register_error("emqx-im", _substitute)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="emqx-im")


def input_encoding() -> str:
    """Returns how what is typed is encoded."""
    return getattr(sys.stdin, "encoding", None) or "utf-8"


def _substitute(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(sign, "?") for sign in signs), error.end
