"""EMQX's ACL file: static permissions, asked before the HTTP authorizer."""

import re
from dataclasses import dataclass
from typing import Literal

from hooks.dev import EmbeddedError
from hooks.dev.patterns import compiled
from hooks.dev.topics import matches
from hooks.emqx.rules.erlang_terms import Atom, TermError, shown, terms

Action = Literal["publish", "subscribe"]


@dataclass(frozen=True)
class Topic:
    text: str
    exact: bool

    def covers(self, topic: str, placeholders: dict[str, str]) -> bool:
        if self.exact:
            return topic == self.text
        return matches(topic, _filled(self.text, placeholders))


@dataclass(frozen=True)
class AclEntry:
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

    entries: tuple[AclEntry, ...]

    @classmethod
    def parse(cls, text: str, name: str = "acl.conf") -> "Acl":
        """Raises EmbeddedError naming file, line and term where the file holds anything else than

        `{allow | deny, all | {username, "x"} | {username, {re, "x"}}, publish | subscribe | all,
        ["topic", {eq, "topic"}, …]}.` with `${username}` and `${clientid}` in the topics.
        """
        try:
            return cls(tuple(_entry(term, f"{name} line {line}") for line, term in terms(text, name)))
        except TermError as error:
            raise EmbeddedError(str(error)) from None

    def decide(self, username: str, clientid: str, action: Action, topic: str) -> bool | None:
        """Returns True if allowed, False if denied, and None if the file does not decide."""
        for entry in self.entries:
            if entry.decides(username, clientid, action, topic):
                return entry.allow
        return None


_ACTIONS: dict[str, Action | None] = {"publish": "publish", "subscribe": "subscribe", "all": None}
_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_PLACEHOLDERS = {"username", "clientid"}


def _filled(text: str, placeholders: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: placeholders[found[1]], text)


def _entry(term: object, where: str) -> AclEntry:
    match term:
        case (Atom("allow" | "deny") as permission, who, Atom() as action, list(topics)) if action in _ACTIONS:
            return AclEntry(
                allow=permission == "allow",
                username=_username(who, where),
                action=_ACTIONS[action],
                topics=tuple(_topic(topic, where) for topic in topics),
            )
    raise EmbeddedError(f"{where}: not supported: {shown(term)}")


def _username(who: object, where: str) -> re.Pattern[bytes] | str | None:
    match who:
        case Atom("all"):
            return None
        case (Atom("username"), (Atom("re"), str(pattern))) if not isinstance(pattern, Atom):
            return compiled(pattern, where)
        case (Atom("username"), str(name)) if not isinstance(name, Atom):
            return name
    raise EmbeddedError(f"{where}: not supported: {shown(who)}")


def _topic(term: object, where: str) -> Topic:
    match term:
        case Atom():
            pass
        case (Atom("eq"), str(text)) if not isinstance(text, Atom):
            return Topic(text, exact=True)
        case str(text) if set(_PLACEHOLDER.findall(text)) <= _PLACEHOLDERS and not text.startswith("eq "):
            return Topic(text, exact=False)
    raise EmbeddedError(f"{where}: not supported: {shown(term)}")
