"""What each kind of outbox entry means in SQL."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from store.archive.archive import Archive
from store.archive.tables.groups import ROWS_AT_ONCE, GroupRow, GroupTables, MemberRow, decode_group, decode_members
from store.archive.tables.moderation import (
    ModerationRow,
    ModerationTables,
    MuteRow,
    decode_moderation,
    decode_mutes,
)
from store.archive.tables.tags import HolderRow, TagRow, TagTables, decode_holders, decode_tag
from store.record import SERVICE, Message, decode

Row = TypeVar("Row")


class Handler(Protocol[Row]):
    """One kind. Several archivers store entries of a kind in any order, and an entry more than once."""

    def decode(self, data: bytes) -> Row:
        """Raises ValueError if this is not such an entry."""

    def sender(self, row: Row) -> str:
        """Returns the user a refused entry is counted on in the dead letters."""

    async def store(self, rows: Sequence[Row]) -> None:
        """Raises ArchiveAway, or ArchiveRefused if the archive will never take one of the rows."""


class MessageHandler:
    """Kind `message`: the record of a stored message."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def decode(self, data: bytes) -> Message:
        return decode(data)

    def sender(self, row: Message) -> str:
        return row.sender

    async def store(self, rows: Sequence[Message]) -> None:
        await self._archive.store_messages(rows)


class ReplaceHandler:
    """Kind `replace`: the record of a message as it is after an edit or a recall."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def decode(self, data: bytes) -> Message:
        return decode(data)

    def sender(self, row: Message) -> str:
        return row.sender

    async def store(self, rows: Sequence[Message]) -> None:
        await self._archive.replace_messages(rows)


class GroupHandler:
    """Kind `group`: a group as it stands after a change."""

    def __init__(self, groups: GroupTables) -> None:
        self._groups = groups

    def decode(self, data: bytes) -> GroupRow:
        return decode_group(data)

    def sender(self, row: GroupRow) -> str:
        return str(row.owner)

    async def store(self, rows: Sequence[GroupRow]) -> None:
        await self._groups.store_groups(rows)


class MemberHandler:
    """Kind `member`: memberships that began, or that ended, together."""

    def __init__(self, groups: GroupTables) -> None:
        self._groups = groups

    def decode(self, data: bytes) -> list[MemberRow]:
        return decode_members(data)

    def sender(self, row: list[MemberRow]) -> str:
        return SERVICE

    async def store(self, rows: Sequence[list[MemberRow]]) -> None:
        members = [member for each in rows for member in each]
        for start in range(0, len(members), ROWS_AT_ONCE):
            await self._groups.store_members(members[start : start + ROWS_AT_ONCE])


class ModerationHandler:
    """Kind `moderation`: admins, mute of all, and notice of a group after a change."""

    def __init__(self, moderation: ModerationTables) -> None:
        self._moderation = moderation

    def decode(self, data: bytes) -> ModerationRow:
        return decode_moderation(data)

    def sender(self, row: ModerationRow) -> str:
        return SERVICE

    async def store(self, rows: Sequence[ModerationRow]) -> None:
        await self._moderation.store_moderations(rows)


class MuteHandler:
    """Kind `mute`: mutes of users that began, or were ended, together."""

    def __init__(self, moderation: ModerationTables) -> None:
        self._moderation = moderation

    def decode(self, data: bytes) -> list[MuteRow]:
        return decode_mutes(data)

    def sender(self, row: list[MuteRow]) -> str:
        return SERVICE

    async def store(self, rows: Sequence[list[MuteRow]]) -> None:
        mutes = [mute for each in rows for mute in each]
        for start in range(0, len(mutes), ROWS_AT_ONCE):
            await self._moderation.store_mutes(mutes[start : start + ROWS_AT_ONCE])


class TagHandler:
    """Kind `tag`: a tag as it stands after a change."""

    def __init__(self, tags: TagTables) -> None:
        self._tags = tags

    def decode(self, data: bytes) -> TagRow:
        return decode_tag(data)

    def sender(self, row: TagRow) -> str:
        return SERVICE

    async def store(self, rows: Sequence[TagRow]) -> None:
        await self._tags.store_tags(rows)


class HolderHandler:
    """Kind `holder`: what users hold of a tag after a change of many of them."""

    def __init__(self, tags: TagTables) -> None:
        self._tags = tags

    def decode(self, data: bytes) -> list[HolderRow]:
        return decode_holders(data)

    def sender(self, row: list[HolderRow]) -> str:
        return SERVICE

    async def store(self, rows: Sequence[list[HolderRow]]) -> None:
        holders = [holder for each in rows for holder in each]
        for start in range(0, len(holders), ROWS_AT_ONCE):
            await self._tags.store_holders(holders[start : start + ROWS_AT_ONCE])


def handlers(archive: Archive) -> Mapping[bytes, Handler[Any]]:
    """Kind to handler: all that the outbox may hold."""
    return {
        b"message": MessageHandler(archive),
        b"replace": ReplaceHandler(archive),
        b"group": GroupHandler(archive.groups),
        b"member": MemberHandler(archive.groups),
        b"moderation": ModerationHandler(archive.moderation),
        b"mute": MuteHandler(archive.moderation),
        b"tag": TagHandler(archive.tags),
        b"holder": HolderHandler(archive.tags),
    }
