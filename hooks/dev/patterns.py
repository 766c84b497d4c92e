"""Regular expressions of the ACL and the rules: EMQX runs them as PCRE, on bytes."""

import re

from hooks.dev import EmbeddedError

_PART = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^]\\])*\]|.", re.DOTALL)
"""An escape, a class in brackets, or any other character."""


def compiled(pattern: str, where: str) -> re.Pattern[bytes]:
    r"""Returns the pattern as Python's, with PCRE's `\z` written as Python's `\Z`.

    Raises EmbeddedError, with `where` in front, for a pattern that is none, and for one that uses `$` or PCRE's `\Z`:
    both match before a line break too, so `"1001\n"` would be taken for a user.
    """
    parts = _PART.findall(pattern)
    for part in parts:
        if part in ("$", "\\Z"):
            raise EmbeddedError(rf"{where}: not supported: {part} in {pattern}: for the end write \z")
        if part.startswith("[") and "[:" in part:
            raise EmbeddedError(f"{where}: not supported: {part} in {pattern}")
    try:
        return re.compile("".join("\\Z" if part == "\\z" else part for part in parts).encode())
    except re.error as error:
        raise EmbeddedError(f"{where}: {pattern} is not a regular expression: {error}") from None
