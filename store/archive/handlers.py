"""What each kind of outbox entry means in SQL."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from store.archive import Archive
from store.record import Message, decode

Row = TypeVar("Row")


class Handler(Protocol[Row]):
    """One kind. Several archivers store entries of a kind in any order, and an entry more than once."""

    def decode(self, data: bytes) -> Row:
        """Raises ValueError if this is not such an entry."""

    def sender(self, row: Row) -> str:
        """The user a refused entry is counted on in the dead letters."""

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


def handlers(archive: Archive) -> Mapping[bytes, Handler[Any]]:
    """Kind to handler: all that the outbox may hold."""
    return {b"message": MessageHandler(archive)}
