"""The scripts that change tags, and their replies."""

from enum import StrEnum
from typing import Any, NamedTuple

from store.redis.scripts import script


class TagOutcome(StrEnum):
    """What became of a change. PROPAGATING: nothing; an earlier change of the tag has to be propagated first."""

    DONE = "DONE"
    REPEATED = "REPEATED"
    UNCHANGED = "UNCHANGED"
    PROPAGATING = "PROPAGATING"


class TagReply(NamedTuple):
    """id: of the change, 0 if there is none."""

    outcome: TagOutcome
    id: int

    @classmethod
    def parse(cls, reply: list[Any]) -> "TagReply":
        return cls(TagOutcome(reply[0].decode()), reply[1])


class HoldersReply(NamedTuple):
    """id: of the change, 0 if there is none. added, removed: users whom the source gave the tag to or took it from."""

    outcome: TagOutcome
    id: int
    added: int
    removed: int

    @classmethod
    def parse(cls, reply: list[Any]) -> "HoldersReply":
        return cls(TagOutcome(reply[0].decode()), *reply[1:])


class PropagateReply(NamedTuple):
    """One step. more: there is more to do. looked, changed: at so many users, of so many the maps."""

    more: bool
    looked: int
    changed: int

    @classmethod
    def parse(cls, reply: list[int]) -> "PropagateReply":
        return cls(reply[0] == 1, *reply[1:])


PUT = script("tag_put", TagReply)
DELETE = script("tag_delete", TagReply)
REPLACE = script("tag_replace", TagReply)
HOLDERS = script("tag_holders", HoldersReply)
PROPAGATE = script("tag_propagate", PropagateReply)
