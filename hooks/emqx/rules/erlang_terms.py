"""Reads Erlang terms of configuration files: `{allow, {username, "x"}, all, ["a", 'b', 1]}.`  It understands tuples,
lists, strings and whole numbers, which become Python's, and atoms, which become `Atom`.
"""

import re
from collections.abc import Iterator


class TermError(Exception):
    """The text is not of the part of Erlang that is understood; the message names file and line."""


class Atom(str):
    """A bare word of the file, told apart from a quoted string."""


_TOKEN = re.compile(
    r"""(?P<space>\s+|%[^\n]*)|(?P<mark>[{}\[\],.])|(?P<atom>[a-z][\w@]*|'[^'\\\n]*')|(?P<number>-?\d+)"""
    r"""|"(?P<string>(?:[^"\\]|\\.)*)["]""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " ", "\\": "\\", '"': '"', "'": "'"}


def terms(text: str, name: str) -> Iterator[tuple[int, object]]:
    """Yields the terms that end in a dot, each with the line it starts on. Raises TermError."""
    tokens = list(_tokens(text, name))
    position = 0
    while position < len(tokens):
        line = tokens[position][0]
        term, position = _term(tokens, position, name)
        if position >= len(tokens) or tokens[position][1] != ("mark", "."):
            raise TermError(f"{name} line {line}: no `.` after {shown(term)}")
        position += 1
        yield line, term


def _tokens(text: str, name: str) -> Iterator[tuple[int, tuple[str, str]]]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            rest = text[position:].split("\n", 1)[0]
            raise TermError(f"{name} line {line}: not supported: {rest}")
        kind = found.lastgroup
        if kind == "string":
            yield line, ("string", _unescaped(found["string"], f"{name} line {line}"))
        elif kind in ("mark", "atom", "number"):
            yield line, (kind, found[0].strip("'"))
        line += found[0].count("\n")
        position = found.end()


def _unescaped(text: str, where: str) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPED:
            raise TermError(f'{where}: not supported: {found[0]} in "{text}"')
        return _ESCAPED[found[1]]

    return _ESCAPE.sub(one, text)


def _term(tokens: list[tuple[int, tuple[str, str]]], position: int, name: str) -> tuple[object, int]:
    """Returns the term that starts at `position`, and the position after it."""
    line, token = tokens[position]
    match token:
        case ("string", text):
            return text, position + 1
        case ("atom", text):
            return Atom(text), position + 1
        case ("number", text):
            return int(text), position + 1
        case ("mark", "{" | "[" as opening):
            closing = {"{": "}", "[": "]"}[opening]
            items: list[object] = []
            position += 1
            while position < len(tokens) and tokens[position][1] != ("mark", closing):
                if items:
                    if tokens[position][1] != ("mark", ","):
                        raise TermError(f"{name} line {tokens[position][0]}: `,` or `{closing}` is missing")
                    position += 1
                if position < len(tokens):
                    item, position = _term(tokens, position, name)
                    items.append(item)
            if position >= len(tokens):
                raise TermError(f"{name} line {line}: `{opening}` is not closed")
            return (tuple(items) if opening == "{" else items), position + 1
    raise TermError(f"{name} line {line}: not supported: {token[1]}")


def shown(term: object) -> str:
    """Returns the term as it would stand in the file."""
    match term:
        case Atom():
            return term
        case str():
            return f'"{term}"'
        case tuple():
            return "{" + ", ".join(map(shown, term)) + "}"
        case list():
            return "[" + ", ".join(map(shown, term)) + "]"
    return repr(term)
