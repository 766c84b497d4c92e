"""What a topic, a username and an id name."""

import re
from typing import NamedTuple

LARGEST_ID = 2**53 - 1
UNDEFINED = "undefined"
"""EMQX writes this string where it has no value."""

_ID = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class Single(NamedTuple):
    uid: int


class Group(NamedTuple):
    gid: int


class Global(NamedTuple):
    pass


class Tag(NamedTuple):
    tag: str


def number(text: str) -> int | None:
    """A uid or gid: a decimal integer from 1 to 2^53-1 without leading zeros."""
    if _ID.fullmatch(text) is None:
        return None
    value = int(text)
    return value if value <= LARGEST_ID else None


def receiver(topic: str) -> Single | Group | Global | Tag | None:
    """What a message to the topic is for; None if the topic names nothing."""
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
