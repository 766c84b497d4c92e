"""Addresses: whom a message is for. Nothing else in Python knows how topics, channels and conversations are written.

A topic is an address, or says more than one: a command (an address and what is asked of it), a message on its way
by trusted sending, a will. A channel is a timeline that many read. A conversation is what the archive files a
message under.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_ID = 2**53 - 1
_MAX_ID_DIGITS = 16

FIRST_LEVELS = frozenset(["single", "group", "business", "send", "im"])
"""The first levels of all topics that mean something."""

TAG_CHANNELS = "tag_"
"""What the names of tags' channels begin with; the tag follows."""

INBOX_CONVERSATIONS = "single/"
"""What the names of inboxes' conversations begin with; the uid follows. No other conversation's name begins so."""

_GLOBAL = "global"
_GROUP_CHANNELS = "group:"
_SEND = "send/"
_WILL = "im/will/"
_SENT_CONVERSATIONS = "sent/"

_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


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
"""What many read."""

Address = Inbox | Channel

GLOBAL = Global()


class CommandTopic(NamedTuple):
    """What a user asks of an address."""

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
        return _SEND + self.address.topic


@dataclass(frozen=True, slots=True)
class WillTopic:
    """Where the broker publishes that a device of this user died."""

    uid: int

    @property
    def topic(self) -> str:
        return f"im/will/{self.uid}"


Topic = Address | CommandTopic | SendTopic | WillTopic

VERBS: dict[type[Address], frozenset[str]] = {
    Inbox: frozenset(),
    Group: frozenset(["create", "invite", "join", "leave", "kick", "dismiss", "mode"]),
    Global: frozenset(),
    Tag: frozenset(["follow", "unfollow"]),
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
    return Tag(name) if _TAG.fullmatch(name) else None


def parse(topic: str) -> Topic | None:
    """Returns what a topic names; None if it names nothing."""
    kind, _, name = topic.partition("/")
    verb = None
    if "/" in name:
        name, _, verb = name.partition("/")
    found: Address | None
    if kind == "single":
        found = None if (uid := number(name)) is None else Inbox(uid)
    elif kind == "group":
        found = None if (gid := number(name)) is None else Group(gid)
    elif kind == "business":
        found = _of_many(name)
    else:
        return _around(topic)
    if verb is None or found is None:
        return found
    return CommandTopic(found, verb) if verb in VERBS[type(found)] else None


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


def _around(topic: str) -> SendTopic | WillTopic | None:
    """Returns what a topic names that begins as no address does."""
    if topic.startswith(_SEND):
        to = parse(topic[len(_SEND) :])
        return SendTopic(to) if isinstance(to, Inbox | Group) else None
    uid = number(topic[len(_WILL) :]) if topic.startswith(_WILL) else None
    return WillTopic(uid) if uid is not None else None


def _of_many(name: str) -> Global | Tag | None:
    """Returns what a name stands for that is the last level of a topic and a channel; None for nothing."""
    if name.startswith(TAG_CHANNELS):
        return tag_named(name[len(TAG_CHANNELS) :])
    return GLOBAL if name == _GLOBAL else None
