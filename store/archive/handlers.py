"""Brings each kind of outbox entry into the archive."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from store.archive.archive import Archive
from store.archive.outbox import MESSAGES
from store.archive.tables.groups import ROWS_AT_ONCE, GroupRow, decode_group, decode_members
from store.archive.tables.moderation import decode_moderation, decode_mutes
from store.archive.tables.operators import decode_audit, decode_ban
from store.archive.tables.states import StateRow, decode_state
from store.archive.tables.tags import decode_holders, decode_tag
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


def _service(row: object) -> str:
    return SERVICE


def _author(row: Message) -> str:
    return row.sender


def _broken(data: bytes) -> NoReturn:
    raise ValueError("the lengths of the records do not fit the records")


def _user(row: StateRow) -> str:
    return str(row.uid)


def _owner(row: GroupRow) -> str:
    return str(row.owner)


@dataclass(frozen=True)
class OneRow(Generic[Row]):
    """A kind whose entries are one row each."""

    decode: Callable[[bytes], Row]
    store: Callable[[Sequence[Row]], Awaitable[None]]
    sender: Callable[[Row], str] = _service


@dataclass(frozen=True)
class ManyRows(Generic[Row]):
    """A kind whose entries are many rows each, of users who were changed together."""

    decode: Callable[[bytes], list[Row]]
    store_rows: Callable[[Sequence[Row]], Awaitable[None]]

    def sender(self, row: list[Row]) -> str:
        return SERVICE

    async def store(self, rows: Sequence[list[Row]]) -> None:
        flat = [row for each in rows for row in each]
        for start in range(0, len(flat), ROWS_AT_ONCE):
            await self.store_rows(flat[start : start + ROWS_AT_ONCE])


def handlers(archive: Archive) -> Mapping[bytes, Handler[Any]]:
    """Returns kind to handler: all that the outbox may hold. At any other kind the archiver stops."""
    kinds: dict[bytes, Any] = {
        b"message": MessageHandler(archive),
        # Messages written together reach a handler one by one, unless they cannot be told apart.
        MESSAGES: OneRow(_broken, archive.store_messages),
        # The record of a message as it is after an edit or a recall.
        b"replace": OneRow(decode, archive.replace_messages, _author),
        # A group as it stands after a change; its admins, the mute of all, and its notice.
        b"group": OneRow(decode_group, archive.groups.store_groups, _owner),
        b"moderation": OneRow(decode_moderation, archive.moderation.store_moderations),
        # Memberships and mutes that began, or that ended, together.
        b"member": ManyRows(decode_members, archive.groups.store_members),
        b"mute": ManyRows(decode_mutes, archive.moderation.store_mutes),
        # A user's read mark, setting or block, and one that is forgotten as there are too many.
        b"state": OneRow(decode_state, archive.states.store_states, _user),
        b"state_gone": OneRow(decode_state, archive.states.delete_states, _user),
        # A tag as it stands after a change, and what users hold of one after a change of many of them.
        b"tag": OneRow(decode_tag, archive.tags.store_tags),
        b"holder": ManyRows(decode_holders, archive.tags.store_holders),
        # A user's ban as it stands after a change, and one call of an operator.
        b"ban": OneRow(decode_ban, archive.operators.store_bans),
        b"audit": OneRow(decode_audit, archive.operators.store_audit),
    }
    return kinds
