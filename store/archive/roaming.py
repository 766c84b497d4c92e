"""Reads one user's past: months that are aggregated from blocks, all others from rows, never one from both.

Which months are aggregated is read before any data. A month that is switched over meanwhile still has its rows: they
go an hour later at the earliest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from store.archive.blocks import BLOCK_MESSAGES, sent_by, unpack
from store.archive.months import Month
from store.record import Message

ReadRows = Callable[[Sequence[str], str, int, int, int], Awaitable[list[Message]]]


class Head(NamedTuple):
    """A block without its data."""

    conversation: str
    first_id: int
    last_id: int
    messages: int


class Span(NamedTuple):
    """The blocks of a conversation that end after one id and at another at the latest."""

    conversation: str
    after: int
    last_id: int


class BlockReader(Protocol):
    """Reads the tables of blocks. Raises ArchiveAway."""

    async def aggregated(self) -> list[Month]:
        """The months whose messages are read from blocks, in order."""

    async def heads(self, conversations: Sequence[str], after: int, before: int, limit: int) -> list[Head]:
        """The first `limit` blocks of each conversation that reach into what lies between two ids, both excluded;
        in order of their last ids."""

    async def data(self, spans: Sequence[Span]) -> list[bytes]:
        """The blocks' data."""


async def read(
    blocks: BlockReader,
    rows: ReadRows,
    conversations: Sequence[str],
    sender: str,
    after: int,
    before: int,
    limit: int,
) -> list[Message]:
    """What `Archive.read` promises; `rows` reads the same from rows alone."""
    messages: list[Message] = []
    for aggregated, low, high in pieces(after, before, await blocks.aggregated()):
        missing = limit - len(messages)
        if aggregated:
            messages += await _from_blocks(blocks, [*conversations, sent_by(sender)], low, high, missing)
        else:
            messages += await rows(conversations, sender, low, high, missing)
        if len(messages) == limit:
            break
    return messages


def pieces(after: int, before: int, aggregated: Sequence[Month]) -> Iterator[tuple[bool, int, int]]:
    """Cuts what lies between two ids: whether a piece is aggregated, and its two ends, all ends excluded."""
    start = end = after + 1
    for month in aggregated:
        if month.edge <= end or month.start >= before:
            continue
        if month.start > end:
            if start < end:
                yield True, start - 1, end
            yield False, end - 1, month.start
            start = month.start
        end = min(month.edge, before)
    if start < end:
        yield True, start - 1, end
    if end < before:
        yield False, end - 1, before


async def _from_blocks(
    blocks: BlockReader, conversations: Sequence[str], after: int, before: int, limit: int
) -> list[Message]:
    heads, end = await _heads(blocks, conversations, after, before, limit)
    ends = {head.conversation: head.last_id for head in heads if head.first_id <= end}
    if not ends:
        return []
    data = await blocks.data([Span(conversation, after, last_id) for conversation, last_id in ends.items()])
    return await asyncio.to_thread(_oldest, data, after, before, limit)


async def _heads(
    blocks: BlockReader, conversations: Sequence[str], after: int, before: int, limit: int
) -> tuple[list[Head], int]:
    """Heads of blocks, and an id: the oldest `limit` messages lie up to that id, or all there are; and none of the
    blocks that begin up to it is missing."""
    count = limit // BLOCK_MESSAGES + 2
    while True:
        heads = await blocks.heads(conversations, after, before, count)
        of_each: dict[str, list[int]] = {}
        for head in heads:
            of_each.setdefault(head.conversation, []).append(head.last_id)
        complete = min((ids[-1] for ids in of_each.values() if len(ids) == count), default=before)
        found = 0
        for head in heads:
            if head.last_id > complete:
                break
            found += _least(head, after, before)
            if found >= limit:
                return heads, head.last_id
        if complete >= before:
            return heads, before
        count *= 4


def _least(head: Head, after: int, before: int) -> int:
    """How many of a block's messages lie between two ids, at least."""
    if after < head.first_id and head.last_id < before:
        return head.messages
    return int(after < head.first_id or head.last_id < before)


def _oldest(data: Sequence[bytes], after: int, before: int, limit: int) -> list[Message]:
    messages = [message for each in data for message in unpack(each) if after < message.mid < before]
    messages.sort()
    return messages[:limit]
