"""Tags and their holders as rows, and as entries of the outbox."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from store.addresses import Tag
from store.archive.tables.changes import Change, newest_of_each

DELETED_AT_ONCE = 5000


class TagRow(NamedTuple):
    """made, deleted, changed: ids; deleted is 0 while the tag is there."""

    tag: str
    followable: bool
    made: int
    deleted: int
    changed: int
    title: str


class HolderRow(NamedTuple):
    """One interval in which a user held a tag. joined, left, changed: ids; left is 0 while it lasts.

    sources: bits of those that say so, see `include/holding.lua`.
    """

    tag: str
    uid: int
    joined: int
    left: int
    sources: int
    changed: int


class TagTables(Protocol):
    """Rows may come in any order, and more than once: the newest counts. Every method raises ArchiveAway."""

    async def store_tags(self, rows: Sequence[TagRow]) -> None:
        """Raises ArchiveRefused."""

    async def store_holders(self, rows: Sequence[HolderRow]) -> None:
        """Raises ArchiveRefused."""

    async def tags(self, after: str, limit: int) -> list[TagRow]:
        """Returns the tags after one, by name."""

    async def holders(self, tag: str, after: tuple[int, int], limit: int) -> list[HolderRow]:
        """Returns the holders of a tag after one (uid, joined), in that order."""

    async def holding(self, tag: str, after: int, limit: int) -> list[HolderRow]:
        """Returns those above a uid who hold a tag now, by uid."""

    async def drop(self, before: int) -> int:
        """Drops holders' intervals that ended below an id; returns how many."""


def tag_changes(rows: Sequence[TagRow] | Sequence[HolderRow]) -> list[Change]:
    """Returns the last change of each tag in rows."""
    return newest_of_each(Change(Tag(row.tag).channel, row.changed) for row in rows)


def decode_tag(data: bytes) -> TagRow:
    """Reads `tag\\nfollowable\\nmade\\ndeleted\\nchanged\\ntitle`. Raises ValueError."""
    tag, followable, made, deleted, changed, title = data.decode().split("\n", 5)
    return TagRow(tag, followable == "1", int(made), int(deleted), int(changed), title)


def decode_holders(data: bytes) -> list[HolderRow]:
    """Reads `tag`; then for each change `\\nchanged` and lines `\\nuid:joined:left:sources`. Raises ValueError."""
    tag, *lines = data.decode().split("\n")
    rows, changed = [], 0
    for line in lines:
        if ":" in line:
            uid, joined, left, sources = line.split(":")
            rows.append(HolderRow(tag, int(uid), int(joined), int(left), int(sources), changed))
        else:
            changed = int(line)
    return rows
