"""Defines admins, mutes and notices of groups as rows and as entries of the outbox."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class ModerationRow(NamedTuple):
    """Admins, mute of all, and notice of a group. changed: id. muted_until: milliseconds. admins: as Redis has them."""

    gid: int
    changed: int
    muted_until: int
    admins: str
    notice: str


class MuteRow(NamedTuple):
    """The mute of one user. until: milliseconds, 0 if somebody ended it. changed: id."""

    gid: int
    uid: int
    until: int
    changed: int


class ModerationTables(Protocol):
    """Rows may come in any order, and more than once: of a group, and of a user in it, the newest counts."""

    async def store_moderations(self, rows: Sequence[ModerationRow]) -> None:
        """Raises ArchiveAway, ArchiveRefused."""

    async def store_mutes(self, rows: Sequence[MuteRow]) -> None:
        """Raises ArchiveAway, ArchiveRefused."""

    async def moderations(self, after: int, limit: int) -> list[ModerationRow]:
        """Returns those above a gid, by gid. Raises ArchiveAway."""

    async def mutes(self, after: tuple[int, int], limit: int) -> list[MuteRow]:
        """Returns those after one (gid, uid), in that order. Raises ArchiveAway."""


def decode_moderation(data: bytes) -> ModerationRow:
    """Reads `gid\\nchanged\\nmuted_until\\nadmins\\nnotice`. Raises ValueError."""
    gid, changed, muted_until, admins, notice = data.decode().split("\n", 4)
    return ModerationRow(int(gid), int(changed), int(muted_until), admins, notice)


def decode_mutes(data: bytes) -> list[MuteRow]:
    """Reads `gid\\nchanged\\nuntil`, then `\\nuid` for each. Raises ValueError."""
    gid, changed, until, *users = map(int, data.split(b"\n"))
    return [MuteRow(gid, uid, until, changed) for uid in users]
