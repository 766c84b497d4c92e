"""What a topic, a username and an id name."""

import re
from typing import NamedTuple

MAX_ID = 2**53 - 1
UNDEFINED = "undefined"
"""EMQX writes this string where it has no value."""

SEND = "send/"
"""What stands before the receiver's topic where users publish with trusted sending."""

GROUP_COMMANDS = frozenset(["create", "invite", "join", "leave", "kick", "dismiss", "mode"])
TAG_COMMANDS = frozenset(["follow", "unfollow"])

_ID = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class Single(NamedTuple):
    uid: int


class Group(NamedTuple):
    gid: int


class Global(NamedTuple):
    pass


class Command(NamedTuple):
    """What a user asks of a group or a tag."""

    of: "Group | Tag"
    name: str


class Tag(NamedTuple):
    tag: str


def number(text: str) -> int | None:
    """Returns a uid or gid: a decimal integer from 1 to 2^53-1 without leading zeros."""
    if _ID.fullmatch(text) is None:
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def receiver(topic: str) -> Single | Group | Global | Tag | None:
    """Returns what a message to the topic is for; None if the topic names nothing."""
    kind, _, name = topic.partition("/")
    if kind == "single":
        return Single(uid) if (uid := number(name)) is not None else None
    if kind == "group":
        return Group(gid) if (gid := number(name)) is not None else None
    if topic == "business/global":
        return Global()
    if kind == "business" and name.startswith("tag_") and _TAG.fullmatch(name, 4):
        return Tag(name[4:])
    return None


def topic_of(audience: Group | Tag) -> str:
    """Returns where messages to it are published."""
    return f"group/{audience.gid}" if isinstance(audience, Group) else f"business/tag_{audience.tag}"


def sent_to(topic: str) -> Single | Group | None:
    """Returns the receiver of what a user publishes with trusted sending; None if it is no such topic."""
    to = receiver(topic.removeprefix(SEND)) if topic.startswith(SEND) else None
    return to if isinstance(to, Single | Group) else None


def command(topic: str) -> Command | None:
    """Returns the command a topic is; None if it is none."""
    of, _, name = topic.rpartition("/")
    match receiver(of):
        case Group() as group if name in GROUP_COMMANDS:
            return Command(group, name)
        case Tag() as tag if name in TAG_COMMANDS:
            return Command(tag, name)
    return None
