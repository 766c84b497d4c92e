"""Reads the headers of Lua files: what a file takes and what it replies.

A header begins with prose. After its last empty comment line come directives, each once, of which KEYS, ARGV and REPLY
may not be missing; a line that is indented goes on with the one before it, and `-` stands for nothing:

    include NAME …     files of `lua/include/` whose keys, arguments and functions it uses, and so takes too
    guarded            it runs only on a Redis that `admit` has let in
    KEYS NAME …        the local NAME_key; a NAME that ends in `_prefix` is the local's name itself
    ARGV NAME:UNIT …   the local NAME: a number in the UNITS that count something, else a string
    REPLY NAME …       the fields of the reply; `NAME=CODE|CODE` names the texts that one may be
    ERROR CODE …       the errors it refuses everything with

A script may touch keys that it makes of a prefix and does not declare. While Redis moves a slot key by key, some of
them are on the other node, and the script would fail midway. But no key is called like a prefix, which is declared, and
Redis does not begin a script while a declared key is missing: it answers TRYAGAIN or ASK.

KEYS and ARGV may end with `(NAME …)...`: what comes any number of times. It begins at FIRST_KEY and FIRST_ARGUMENT.
"""

import re
from typing import NamedTuple

NUMBERS = frozenset({"us", "ms", "s", "bytes", "count"})
UNITS = NUMBERS | {"id", "uid", "gid", "flag", "text"}

_REQUIRED = {"KEYS", "ARGV", "REPLY"}
_KNOWN = _REQUIRED | {"include", "guarded", "ERROR"}
_LINE = re.compile(r"^--( ?)(.*)$")
_TAIL = re.compile(r"\(([\w: ]+)\)\.\.\.$")
_NAME = re.compile(r"[a-z]\w*$")


class HeaderError(Exception):
    """A Lua file's header is not what `headers.py` describes."""


class Header(NamedTuple):
    """shebang: the file's first line, if that says how Redis is to run it. arguments: name to unit, in order.

    more_keys, more_arguments: the names of what comes any number of times; () where nothing does. codes: by field of
    the reply. body: the file without its header.
    """

    shebang: str
    includes: tuple[str, ...]
    guarded: bool
    keys: tuple[str, ...]
    more_keys: tuple[str, ...]
    arguments: dict[str, str]
    more_arguments: dict[str, str]
    reply: tuple[str, ...]
    codes: dict[str, tuple[str, ...]]
    errors: tuple[str, ...]
    body: str


def parse(name: str, text: str) -> Header:
    """Returns the header of the file `name`. Raises HeaderError."""
    lines = text.splitlines(keepends=True)
    shebang = lines.pop(0) if text.startswith("#!") else ""
    length = next((index for index, line in enumerate(lines) if not line.startswith("--")), len(lines))
    directives = _directives(name, lines[:length])
    keys, more_keys = _split(directives["KEYS"])
    arguments, more_arguments = _split(directives["ARGV"])
    fields = [field.partition("=") for field in directives["REPLY"].split()]
    for each in (*keys, *more_keys, *(field for field, _, _ in fields)):
        if not _NAME.match(each):
            raise HeaderError(f"{name}.lua: {each!r} is no name")
    return Header(
        shebang,
        tuple(directives.get("include", "").split()),
        "guarded" in directives,
        keys,
        more_keys,
        _units(name, arguments),
        _units(name, more_arguments),
        tuple(field for field, _, _ in fields),
        {field: tuple(codes.split("|")) for field, _, codes in fields if codes},
        tuple(directives.get("ERROR", "").split()),
        "".join(lines[length:]),
    )


def _directives(name: str, header: list[str]) -> dict[str, str]:
    """Returns what each directive says; `-` is nothing."""
    found: dict[str, str] = {}
    texts = [line.rstrip() for line in header]
    last_empty = max((index for index, text in enumerate(texts) if text == "--"), default=-1)
    word = ""
    for text in texts[last_empty + 1 :]:
        match = _LINE.match(text)
        assert match is not None
        if match[2].startswith("  ") and word:
            found[word] = f"{found[word]} {match[2].strip()}".strip()
            continue
        word, _, said = match[2].partition(" ")
        if word not in _KNOWN:
            raise HeaderError(f"{name}.lua: its header has the unknown directive {word!r}")
        if word in found:
            raise HeaderError(f"{name}.lua: its header has {word} twice")
        found[word] = "" if said == "-" else said.strip()
    if missing := _REQUIRED - found.keys():
        raise HeaderError(f"{name}.lua: its header lacks {', '.join(sorted(missing))}")
    return found


def _split(said: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names, and those that come any number of times."""
    tail = _TAIL.search(said)
    if tail is None:
        return tuple(said.split()), ()
    return tuple(said[: tail.start()].split()), tuple(tail[1].split())


def _units(name: str, arguments: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for each in arguments:
        argument, _, unit = each.partition(":")
        if not _NAME.match(argument) or unit not in UNITS:
            raise HeaderError(f"{name}.lua: the argument {each!r} is not a name with one of the units {sorted(UNITS)}")
        found[argument] = unit
    return found
