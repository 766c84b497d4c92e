"""EMQX's ACL file: static permissions, asked before the HTTP authorizer."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hooks.embedded import EmbeddedError
from hooks.embedded.patterns import compiled
from hooks.embedded.topics import matches

Action = Literal["publish", "subscribe"]


class Atom(str):
    """A bare word of the file, told apart from a quoted string."""


@dataclass(frozen=True)
class Topic:
    text: str
    exact: bool

    def covers(self, topic: str, placeholders: dict[str, str]) -> bool:
        if self.exact:
            return topic == self.text
        return matches(topic, _filled(self.text, placeholders))


@dataclass(frozen=True)
class Entry:
    allow: bool
    username: re.Pattern[bytes] | str | None
    action: Action | None
    topics: tuple[Topic, ...]

    def decides(self, username: str, clientid: str, action: Action, topic: str) -> bool:
        if self.action not in (None, action):
            return False
        if isinstance(self.username, re.Pattern) and not self.username.search(username.encode()):
            return False
        if isinstance(self.username, str) and self.username != username:
            return False
        placeholders = {"username": username, "clientid": clientid}
        return any(wanted.covers(topic, placeholders) for wanted in self.topics)


@dataclass(frozen=True)
class Acl:
    """The entries of the file, in order; the first that covers a question decides it."""

    entries: tuple[Entry, ...]

    @classmethod
    def parse(cls, text: str, name: str = "acl.conf") -> "Acl":
        """Raises EmbeddedError naming file, line and term where the file holds anything else than

        `{allow | deny, all | {username, "x"} | {username, {re, "x"}}, publish | subscribe | all,
        ["topic", {eq, "topic"}, …]}.` with `${username}` and `${clientid}` in the topics.
        """
        return cls(tuple(_entry(term, f"{name} line {line}") for line, term in _terms(text, name)))

    def decide(self, username: str, clientid: str, action: Action, topic: str) -> bool | None:
        """True: allowed; False: denied; None: the file does not say."""
        for entry in self.entries:
            if entry.decides(username, clientid, action, topic):
                return entry.allow
        return None


_ACTIONS: dict[str, Action | None] = {"publish": "publish", "subscribe": "subscribe", "all": None}
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_PLACEHOLDERS = {"username", "clientid"}


def _filled(text: str, placeholders: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: placeholders[found[1]], text)


def _entry(term: object, where: str) -> Entry:
    match term:
        case (Atom("allow" | "deny") as permission, who, Atom() as action, list(topics)) if action in _ACTIONS:
            return Entry(
                allow=permission == "allow",
                username=_username(who, where),
                action=_ACTIONS[action],
                topics=tuple(_topic(topic, where) for topic in topics),
            )
    raise EmbeddedError(f"{where}: not supported: {_shown(term)}")


def _username(who: object, where: str) -> re.Pattern[bytes] | str | None:
    match who:
        case Atom("all"):
            return None
        case (Atom("username"), (Atom("re"), str(pattern))) if not isinstance(pattern, Atom):
            return compiled(pattern, where)
        case (Atom("username"), str(name)) if not isinstance(name, Atom):
            return name
    raise EmbeddedError(f"{where}: not supported: {_shown(who)}")


def _topic(term: object, where: str) -> Topic:
    match term:
        case Atom():
            pass
        case (Atom("eq"), str(text)) if not isinstance(text, Atom):
            return Topic(text, exact=True)
        case str(text) if set(_PLACEHOLDER.findall(text)) <= _PLACEHOLDERS and not text.startswith("eq "):
            return Topic(text, exact=False)
    raise EmbeddedError(f"{where}: not supported: {_shown(term)}")


_TOKEN = re.compile(
    r'(?P<space>\s+|%[^\n]*)|(?P<mark>[{}\[\],.])|(?P<atom>[a-z][\w@]*)|"(?P<string>(?:[^"\\]|\\.)*)"',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " ", "\\": "\\", '"': '"', "'": "'"}


def _terms(text: str, name: str) -> Iterator[tuple[int, object]]:
    """The terms that end in a dot, each with the line it starts on."""
    tokens = list(_tokens(text, name))
    position = 0
    while position < len(tokens):
        line = tokens[position][0]
        term, position = _term(tokens, position, name)
        if position >= len(tokens) or tokens[position][1] != ("mark", "."):
            raise EmbeddedError(f"{name} line {line}: no `.` after {_shown(term)}")
        position += 1
        yield line, term


def _tokens(text: str, name: str) -> Iterator[tuple[int, tuple[str, str]]]:
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            rest = text[position:].split("\n", 1)[0]
            raise EmbeddedError(f"{name} line {line}: not supported: {rest}")
        kind = found.lastgroup
        if kind == "string":
            yield line, ("string", _unescaped(found["string"], f"{name} line {line}"))
        elif kind in ("mark", "atom"):
            yield line, (kind, found[0])
        line += found[0].count("\n")
        position = found.end()


def _unescaped(text: str, where: str) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPED:
            raise EmbeddedError(f'{where}: not supported: {found[0]} in "{text}"')
        return _ESCAPED[found[1]]

    return _ESCAPE.sub(one, text)


def _term(tokens: list[tuple[int, tuple[str, str]]], position: int, name: str) -> tuple[object, int]:
    """The term that starts at `position`, and the position after it."""
    line, token = tokens[position]
    match token:
        case ("string", text):
            return text, position + 1
        case ("atom", text):
            return Atom(text), position + 1
        case ("mark", "{" | "[" as opening):
            closing = {"{": "}", "[": "]"}[opening]
            items: list[object] = []
            position += 1
            while position < len(tokens) and tokens[position][1] != ("mark", closing):
                if items:
                    if tokens[position][1] != ("mark", ","):
                        raise EmbeddedError(f"{name} line {tokens[position][0]}: `,` or `{closing}` is missing")
                    position += 1
                if position < len(tokens):
                    item, position = _term(tokens, position, name)
                    items.append(item)
            if position >= len(tokens):
                raise EmbeddedError(f"{name} line {line}: `{opening}` is not closed")
            return (tuple(items) if opening == "{" else items), position + 1
    raise EmbeddedError(f"{name} line {line}: not supported: {token[1]}")


def _shown(term: object) -> str:
    """The term as it would stand in the file."""
    match term:
        case Atom():
            return term
        case str():
            return f'"{term}"'
        case tuple():
            return "{" + ", ".join(map(_shown, term)) + "}"
        case list():
            return "[" + ", ".join(map(_shown, term)) + "]"
    return repr(term)
