"""Addresses: whom a message is for. Nothing else in Python knows how topics, channels and conversations are written.

A topic is an address, or says more than one: a command (an address and what is asked of it), a message on its way
by trusted sending, a will. A channel is a timeline that many read. A conversation is what the archive files a
message under.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

MAX_ID = 2**53 - 1
_MAX_ID_DIGITS = 16

FIRST_LEVELS = frozenset(["single", "group", "business", "send", "im"])
"""The first levels of all topics that mean something."""

TAG_CHANNELS = "tag_"
"""The start of the names of tags' channels; the tag follows."""

_TAG_AT = len(TAG_CHANNELS)

INBOX_CONVERSATIONS = "single/"
"""The start of the names of inboxes' conversations; the uid follows. No other conversation's name starts so."""

_GLOBAL = "global"
_GROUP_CHANNELS = "group:"
_WILLS = "will/"
_SENT_CONVERSATIONS = "sent/"

_matches_tag = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Inbox:
    """One user, whose messages lie in a timeline of their own."""

    uid: int

    @property
    def topic(self) -> str:
        return f"single/{self.uid}"

    @property
    def channel(self) -> None:
        return None

    @property
    def conversation(self) -> str:
        return self.topic


@dataclass(frozen=True, slots=True)
class Group:
    """The members of a group."""

    gid: int

    @property
    def topic(self) -> str:
        return f"group/{self.gid}"

    @property
    def channel(self) -> str:
        return f"group:{self.gid}"

    @property
    def conversation(self) -> str:
        return self.topic


@dataclass(frozen=True, slots=True)
class Global:
    """Everybody."""

    @property
    def topic(self) -> str:
        return "business/global"

    @property
    def channel(self) -> str:
        return _GLOBAL

    @property
    def conversation(self) -> str:
        return self.topic


@dataclass(frozen=True, slots=True)
class Tag:
    """The users who hold a tag."""

    name: str

    @property
    def topic(self) -> str:
        return f"business/tag_{self.name}"

    @property
    def channel(self) -> str:
        return f"tag_{self.name}"

    @property
    def conversation(self) -> str:
        return self.topic


Channel = Group | Global | Tag
"""An address whose messages many users read."""

Address = Inbox | Channel

GLOBAL = Global()


class CommandTopic(NamedTuple):
    """A user's command to an address."""

    address: Address
    verb: str

    @property
    def topic(self) -> str:
        return f"{self.address.topic}/{self.verb}"


@dataclass(frozen=True, slots=True)
class SendTopic:
    """Where users publish with trusted sending, for the broker to deliver it to the address."""

    address: Inbox | Group

    @property
    def topic(self) -> str:
        return f"send/{self.address.topic}"


@dataclass(frozen=True, slots=True)
class WillTopic:
    """Where the broker publishes that a device of this user died."""

    uid: int

    @property
    def topic(self) -> str:
        return f"im/will/{self.uid}"


Topic = Address | CommandTopic | SendTopic | WillTopic

VERBS: dict[type[Address], frozenset[str]] = {
    Inbox: frozenset(["recall", "edit", "read", "set", "block", "unblock"]),
    Group: frozenset(
        {
            *("create", "invite", "join", "leave", "kick", "dismiss", "mode"),
            *("update", "transfer", "admin", "mute", "recall", "edit", "read"),
        }
    ),
    Global: frozenset(["read"]),
    Tag: frozenset(["follow", "unfollow", "read"]),
}
"""The commands there are below each kind of address."""

_ADDRESSES = (Inbox, Group, Global, Tag)


def number(text: str) -> int | None:
    """Returns a uid or gid: a decimal integer from 1 to 2^53-1 without leading zeros."""
    if not text.isdecimal() or not text.isascii() or text[0] == "0" or len(text) > _MAX_ID_DIGITS:
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def tag_named(name: str) -> Tag | None:
    """Returns the tag; None if no tag can have this name."""
    return Tag(name) if _matches_tag(name) else None


def parse(topic: str) -> Topic | None:
    """Returns what a topic names; None if it names nothing."""
    kind, _, name = topic.partition("/")
    address_of = _ADDRESS_OF.get(kind)
    if address_of is None:
        return _send_or_will(kind, name)
    if "/" not in name:
        return address_of(name)
    name, _, verb = name.partition("/")
    of = address_of(name)
    return CommandTopic(of, verb) if of is not None and verb in VERBS[type(of)] else None


def is_business(topic: str) -> bool:
    """Returns whether it lies where operators publish, even if it names nothing."""
    return topic.startswith("business/")


def is_for_many(topic: str) -> bool:
    """Returns whether a topic or filter lies below groups or `business/`, even if it names nothing."""
    return topic.startswith(("group/", "business/"))


def parse_stored(topic: str) -> Address:
    """Returns the address of a message that was stored. Raises ValueError if the topic is none."""
    found = parse(topic)
    if not isinstance(found, _ADDRESSES):
        raise ValueError(f"not the topic of an address: {topic!r}")
    return found


def parse_channel(name: str) -> Channel:
    """Returns whose channel it is. Raises ValueError if no channel has this name."""
    if name.startswith(_GROUP_CHANNELS):
        gid = number(name[len(_GROUP_CHANNELS) :])
        found: Channel | None = Group(gid) if gid is not None else None
    else:
        found = _of_many(name)
    if found is None:
        raise ValueError(f"not the name of a channel: {name!r}")
    return found


def sent_conversation(sender: str) -> str:
    """Returns where the archive files what a user sent to others, a second time."""
    return _SENT_CONVERSATIONS + sender


def sender_of(conversation: str) -> str | None:
    """Returns the user whose sent messages a conversation holds; None if it holds none."""
    return conversation.removeprefix(_SENT_CONVERSATIONS) if conversation.startswith(_SENT_CONVERSATIONS) else None


def _inbox(name: str) -> Inbox | None:
    uid = number(name)
    return None if uid is None else Inbox(uid)


def _group(name: str) -> Group | None:
    gid = number(name)
    return None if gid is None else Group(gid)


def _of_many(name: str) -> Global | Tag | None:
    """Returns what a name stands for that is the last level of a topic and a channel; None for nothing."""
    if name.startswith(TAG_CHANNELS):
        return Tag(name[_TAG_AT:]) if _matches_tag(name, _TAG_AT) else None
    return GLOBAL if name == _GLOBAL else None


_ADDRESS_OF: dict[str, Callable[[str], Address | None]] = {"single": _inbox, "group": _group, "business": _of_many}


def _send_or_will(kind: str, name: str) -> SendTopic | WillTopic | None:
    if kind == "send":
        to = parse(name)
        return SendTopic(to) if isinstance(to, Inbox | Group) else None
    if kind == "im" and name.startswith(_WILLS):
        uid = number(name[len(_WILLS) :])
        return None if uid is None else WillTopic(uid)
    return None
