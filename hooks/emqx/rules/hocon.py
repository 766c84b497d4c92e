"""Reads the part of HOCON that `emqx-rules/*.hocon` use, and writes configuration as EMQX reads it. It understands
comments, `a.b = value`, `a { … }`, lists, quoted and bare values, with one member on each line or separated by
commas. Substitutions, includes, concatenation and everything else are refused with file and line.
"""

import re
from collections.abc import Iterator
from typing import Any

import orjson

_TOKEN = re.compile(
    r'(?P<space>[ \t]+|#[^\n]*)|(?P<end>[\n,]+)|(?P<mark>[{}\[\]=])|(?P<string>"(?:[^"\\\n]|\\.)*")'
    r"|(?P<dot>\.)|(?P<bare>[\w@%:/+-]+)"
)
_BARE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}

Object = dict[str, Any]
_Token = tuple[str, str, int]


class HoconError(Exception):
    """The text is not of the part of HOCON that is understood; the message names file and line."""


def read(text: str, name: str) -> Object:
    """Returns the content of the file `name`."""
    return _Reader(list(_tokens(text, name)), name).members("")


def write(content: Object) -> str:
    """Writes one member on each line. Texts of several lines are written between triple quotes, and end with a line."""
    return "".join(f"{_key(key)} = {_value(value, '')}\n" for key, value in content.items())


def _tokens(text: str, name: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise HoconError(f"{name} line {line}: not understood: {text[position:].splitlines()[0]}")
        kind = str(found.lastgroup)
        if kind != "space":
            yield kind, found[0], line
        line += found[0].count("\n")
        position = found.end()
    yield "mark", "", line


class _Reader:
    def __init__(self, tokens: list[_Token], name: str) -> None:
        self._tokens = tokens
        self._name = name
        self._position = 0

    def members(self, closing: str) -> Object:
        """Returns the members up to the closing mark, which is taken too."""
        content: Object = {}
        while True:
            self._skip_ends()
            if self._taken(closing):
                return content
            path = self._path()
            value = self.members("}") if self._taken("{") else self._assigned()
            _put(content, path, value)

    def _assigned(self) -> Any:
        if not self._taken("="):
            raise self._error()
        return self._value()

    def _value(self) -> Any:
        if self._taken("{"):
            return self.members("}")
        if self._taken("["):
            items: list[Any] = []
            while True:
                self._skip_ends()
                if self._taken("]"):
                    return items
                items.append(self._value())
        kind, text, _ = self._next("string", "bare")
        if kind == "string":
            return orjson.loads(text)
        return int(text) if text.isdecimal() else _CONSTANTS.get(text, text)

    def _path(self) -> list[str]:
        path = [self._name_part()]
        while self._tokens[self._position][0] == "dot":
            self._position += 1
            path.append(self._name_part())
        return path

    def _name_part(self) -> str:
        kind, text, _ = self._next("string", "bare")
        return str(orjson.loads(text)) if kind == "string" else text

    def _skip_ends(self) -> None:
        while self._tokens[self._position][0] == "end":
            self._position += 1

    def _taken(self, mark: str) -> bool:
        kind, text, _ = self._tokens[self._position]
        taken = kind == "mark" and text == mark
        self._position += taken
        return taken

    def _next(self, *kinds: str) -> _Token:
        token = self._tokens[self._position]
        if token[0] not in kinds:
            raise self._error()
        self._position += 1
        return token

    def _error(self) -> HoconError:
        _, text, line = self._tokens[self._position]
        return HoconError(f"{self._name} line {line}: not understood: {text.strip() or 'the end'}")


def _put(content: Object, path: list[str], value: Any) -> None:
    """Sets a member; an object is merged into the one that is there."""
    for key in path[:-1]:
        content = content.setdefault(key, {})
    if isinstance(value, dict) and isinstance(content.get(path[-1]), dict):
        content[path[-1]].update(value)
    else:
        content[path[-1]] = value


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else orjson.dumps(key).decode()


def _value(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, dict):
        members = "".join(f"{deeper}{_key(key)} = {_value(item, deeper)}\n" for key, item in value.items())
        return f"{{\n{members}{indent}}}" if members else "{}"
    if isinstance(value, list):
        items = ",\n".join(f"{deeper}{_value(item, deeper)}" for item in value)
        return f"[\n{items}\n{indent}]" if items else "[]"
    if isinstance(value, str) and value.endswith("\n") and '"""' not in value:
        return f'"""{value}"""'
    return orjson.dumps(value).decode()
