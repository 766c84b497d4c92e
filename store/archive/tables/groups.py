"""Groups and their members as rows, and as entries of the outbox."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from store.addresses import Group
from store.archive.tables.changes import Change, newest_of_each

ROWS_AT_ONCE = 2000


class GroupRow(NamedTuple):
    """made, changed, dismissed: ids; dismissed is 0 while it lives. owner: 0 after that."""

    gid: int
    owner: int
    mode: str
    open: bool
    made: int
    dismissed: int
    changed: int
    name: str


class MemberRow(NamedTuple):
    """One membership. joined, left: ids; left is 0 while it lasts. kicked: that is how it ended."""

    gid: int
    uid: int
    joined: int
    left: int
    kicked: bool


class GroupTables(Protocol):
    """Rows may come in any order, and more than once: of a group the newest counts, and a membership ends once."""

    async def store_groups(self, rows: Sequence[GroupRow]) -> None:
        """Raises ArchiveAway, ArchiveRefused."""

    async def store_members(self, rows: Sequence[MemberRow]) -> None:
        """Raises ArchiveAway, ArchiveRefused."""

    async def groups(self, after: int, limit: int) -> list[GroupRow]:
        """Returns the groups above a gid, by gid. Raises ArchiveAway."""

    async def living(self, after: int, limit: int, name: str = "") -> list[GroupRow]:
        """Returns those of them that were not dismissed, and have `name` in their names, in whatever case: all groups
        are read for that, and no index is kept. Raises ArchiveAway."""

    async def members(self, gid: int, after: tuple[int, int], limit: int) -> list[MemberRow]:
        """Returns memberships of a group after one (uid, joined), in that order. Raises ArchiveAway."""


def group_changes(rows: Sequence[GroupRow]) -> list[Change]:
    """Returns the last change of each group in rows. Joining or leaving changes the group, too."""
    return newest_of_each(Change(Group(row.gid).channel, row.changed) for row in rows)


def decode_group(data: bytes) -> GroupRow:
    """Reads `gid\\nowner\\nmode\\nopen\\nmade\\ndismissed\\nchanged\\nname`. Raises ValueError."""
    gid, owner, mode, is_open, made, dismissed, changed, name = data.decode().split("\n", 7)
    return GroupRow(int(gid), int(owner or 0), mode, is_open == "1", int(made), int(dismissed), int(changed), name)


def decode_members(data: bytes) -> list[MemberRow]:
    """Reads `gid\\nleft\\nkicked`, then `\\nuid:joined` for each. Raises ValueError."""
    gid, left, kicked, *members = data.decode().split("\n")
    pairs = (member.split(":") for member in members)
    return [MemberRow(int(gid), int(uid), int(joined), int(left), kicked == "1") for uid, joined in pairs]
