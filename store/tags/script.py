"""The scripts that change tags, and their replies."""

from enum import StrEnum
from typing import Any, NamedTuple

from store.redis.carrier import LinkEntry
from store.redis.scripts import script


class TagOutcome(StrEnum):
    """What became of a change. PROPAGATING: nothing; an earlier change of the tag has to be propagated first. AGAIN:
    nothing; users' shards have to be looked at again."""

    DONE = "DONE"
    REPEATED = "REPEATED"
    UNCHANGED = "UNCHANGED"
    PROPAGATING = "PROPAGATING"
    AGAIN = "AGAIN"


class TagReply(NamedTuple):
    """id: of the change, 0 if there is none."""

    outcome: TagOutcome
    id: int
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "TagReply":
        outcome, id_, links = reply
        return cls(TagOutcome(outcome.decode()), id_, [LinkEntry.parse(each) for each in links])


class HoldersReply(NamedTuple):
    """id: of the change, 0 if there is none. added, removed: users whom the source gave the tag to or took it from."""

    outcome: TagOutcome
    id: int
    added: int
    removed: int
    links: list[LinkEntry]

    @classmethod
    def parse(cls, reply: list[Any]) -> "HoldersReply":
        outcome, id_, added, removed, links = reply
        return cls(TagOutcome(outcome.decode()), id_, added, removed, [LinkEntry.parse(each) for each in links])


class PropagateReply(NamedTuple):
    """One step. more: there is more to do. looked, changed: at so many users, of so many the maps."""

    more: bool
    looked: int
    changed: int

    @classmethod
    def parse(cls, reply: list[int]) -> "PropagateReply":
        return cls(reply[0] == 1, *reply[1:])


class PropagateThereReply(NamedTuple):
    """One step in another shard. number: under which the home has to be told of it; "" if there is nothing to tell.

    at: id of the change. lines: for the archive. permissions: uid and 1 or 0 of each user whom the broker is told of.
    """

    more: bool
    looked: int
    changed: int
    number: str
    at: int
    lines: bytes
    permissions: list[bytes]

    @classmethod
    def parse(cls, reply: list[Any]) -> "PropagateThereReply":
        more, looked, changed, number, at, lines, permissions = reply
        return cls(more == 1, looked, changed, number.decode(), int(at), lines, permissions)


PUT = script("tag_put", TagReply)
DELETE = script("tag_delete", TagReply)
REPLACE = script("tag_replace", TagReply)
HOLDERS = script("tag_holders", HoldersReply)
LOOK = script("tag_look", bytes)
PROPAGATE = script("tag_propagate", PropagateReply)
PROPAGATE_THERE = script("tag_propagate_there", PropagateThereReply)
PROPAGATED = script("tag_propagated", bytes)
