"""Blocks: consecutive messages of one conversation, compressed into one row.

A block is a version byte and, compressed by zlib, its records (`store.record`), each behind its length. Messages of
one month only are in one block, and no two blocks of a conversation overlap.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from store.archive.tables.months import Month
from store.errors import ArchiveAway
from store.record import Message, decode, encode

BLOCK_MESSAGES = 64
BLOCK_BYTES = 64 * 1024
"""Most messages and bytes of records in a block; a larger message has one to itself.

Larger blocks would be a twentieth smaller, and every page of a user in many groups would unpack all the more of each.
"""

_VERSION = b"\x01"
_LENGTH_BYTES = 4


class Block(NamedTuple):
    """One row. first_id, last_id: of its first and last message. messages: how many."""

    conversation: str
    first_id: int
    last_id: int
    messages: int
    data: bytes


class Progress(NamedTuple):
    """How far a month has come: stored with each batch of blocks, in the same transaction.

    conversation, last_id: of the block stored last. messages, blocks, bytes: stored so far; a message that is stored
    twice counts twice. replaced: the highest id of an edit or a recall of its messages.
    """

    month: Month
    conversation: str
    last_id: int
    messages: int
    blocks: int
    bytes: int
    replaced: int

    def after(self, blocks: Sequence[Block]) -> "Progress":
        """Returns the progress when these blocks are stored, too."""
        return Progress(
            self.month,
            blocks[-1].conversation,
            blocks[-1].last_id,
            self.messages + sum(block.messages for block in blocks),
            self.blocks + len(blocks),
            self.bytes + sum(len(block.data) for block in blocks),
            self.replaced,
        )


def with_replaced(data: bytes, changed: Message) -> bytes:
    """Returns the data of a block whose message was edited or recalled. Raises ArchiveAway as `unpack` does."""
    messages = (message.changed_to(changed) if message.mid == changed.mid else message for message in unpack(data))
    return pack([encode(message) for message in messages])


def pack(records: list[bytes]) -> bytes:
    return _VERSION + zlib.compress(b"".join(len(record).to_bytes(_LENGTH_BYTES, "big") + record for record in records))


def unpack(data: bytes) -> Iterator[Message]:
    """Yields the messages of a block. Raises ArchiveAway if a later version of this code made it."""
    if data[:1] != _VERSION:
        raise ArchiveAway("blocks were made by a later version of emqx-im")
    records = zlib.decompress(data[1:])
    start = 0
    while start < len(records):
        end = start + _LENGTH_BYTES
        start, end = end, end + int.from_bytes(records[start:end], "big")
        yield decode(records[start:end])
        start = end


class Cutter:
    """Makes blocks of messages that come conversation by conversation, each in order of ids."""

    def __init__(self) -> None:
        self._conversation = ""
        self._ids: list[int] = []
        self._records: list[bytes] = []
        self._size = 0

    def add(self, conversation: str, message: Message) -> Block | None:
        """Returns the block before this message, if the message does not belong into it."""
        record = encode(message)
        block = None
        if (
            conversation != self._conversation
            or len(self._records) == BLOCK_MESSAGES
            or self._size + len(record) > BLOCK_BYTES
        ):
            block = self.rest()
            self._conversation = conversation
        self._ids.append(message.mid)
        self._records.append(record)
        self._size += len(record)
        return block

    def rest(self) -> Block | None:
        """Returns the block of what was added and is in none yet."""
        if not self._records:
            return None
        ids, records = self._ids, self._records
        self._ids, self._records, self._size = [], [], 0
        return Block(self._conversation, ids[0], ids[-1], len(ids), pack(records))
