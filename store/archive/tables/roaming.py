"""Reads one user's past: months that are aggregated from blocks, all others from rows, never one from both.

Which months are aggregated is read before any data. A month that is switched over meanwhile still has its rows: they
go an hour later at the earliest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from store.addresses import INBOX_CONVERSATIONS, sender_of, sent_conversation
from store.archive.tables.blocks import BLOCK_MESSAGES, unpack
from store.archive.tables.months import Month
from store.archive.tables.visible_range import ENDLESS, VisibleRange
from store.record import Message

Read = Callable[[Sequence[VisibleRange], int], Awaitable[list[Message]]]
"""Reads the oldest messages of some conversations, at most the given number, in order."""

_AT_ONCE = 100
"""Conversations one statement asks for."""


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
        """Returns the months whose messages are read from blocks, in order."""

    async def heads(self, ranges: Sequence[VisibleRange], limit: int) -> list[Head]:
        """Returns the first `limit` blocks of each conversation that reach into what lies between the first and the
        last id of its intervals; in order of their last ids.
        """

    async def data(self, spans: Sequence[Span]) -> list[bytes]:
        """Returns the blocks' data."""


async def read(
    blocks: BlockReader, rows: Read, ranges: Sequence[VisibleRange], sender: str, after: int, before: int, limit: int
) -> list[Message]:
    """Returns what `Archive.read` promises; `rows` reads the same from rows alone.

    Conversations may be `sent_conversation`.
    """
    everything = [VisibleRange(sent_conversation(sender)), *ranges]
    messages: list[Message] = []
    for aggregated, low, high in pieces(after, before, await blocks.aggregated()):
        source = partial(_from_blocks, blocks) if aggregated else rows
        messages += await _oldest_of(source, everything, low, high, limit - len(messages))
        if len(messages) == limit:
            break
    return messages


async def _oldest_of(
    source: Read, ranges: Sequence[VisibleRange], after: int, before: int, limit: int
) -> list[Message]:
    """Returns the oldest `limit` messages between two ids, asked for some conversations at a time, each time for
    less.
    """
    messages: list[Message] = []
    for start in range(0, len(ranges), _AT_ONCE):
        some = [visible.between(after, before) for visible in ranges[start : start + _AT_ONCE]]
        if some := [visible for visible in some if visible.intervals]:
            messages = sorted(messages + await source(some, limit))[:limit]
        if len(messages) == limit:
            before = messages[-1].mid
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


def pages_of_rows(
    page: str,
    page_sent: str,
    ranges: Sequence[VisibleRange],
    limit: int,
    encode: Callable[[str], str | bytes] = str,
) -> tuple[list[str], list[Any]]:
    """Returns a statement for the rows of each interval, and the arguments of all of them. page, page_sent: for those
    of a conversation, and of what a user sent to others. encode: makes a name what the column holds.
    """
    pages: list[str] = []
    arguments: list[Any] = []
    for conversation, intervals in ranges:
        sender = sender_of(conversation)
        query, names = page, [conversation]
        if sender is not None:
            query, names = page_sent, [sender, INBOX_CONVERSATIONS, INBOX_CONVERSATIONS + sender]
        for interval in intervals:
            pages.append(query)
            arguments += (*map(encode, names), *interval, limit)
    return pages, arguments


async def _from_blocks(blocks: BlockReader, ranges: Sequence[VisibleRange], limit: int) -> list[Message]:
    seen = {visible.conversation: visible for visible in ranges}
    heads, end = await _heads(blocks, seen, limit)
    ends = {head.conversation: head.last_id for head in heads if head.first_id <= end}
    if not ends:
        return []
    data = await blocks.data([Span(name, seen[name].intervals[0][0], last_id) for name, last_id in ends.items()])
    return await asyncio.to_thread(_oldest, data, seen, limit)


async def _heads(blocks: BlockReader, seen: Mapping[str, VisibleRange], limit: int) -> tuple[list[Head], int]:
    """Returns heads of blocks, and an id: the oldest `limit` messages, or all, are up to that id, and no block that
    begins up to it is missing."""
    count = limit // BLOCK_MESSAGES + 2
    while True:
        heads = await blocks.heads(list(seen.values()), count)
        of_each: dict[str, list[int]] = {}
        for head in heads:
            of_each.setdefault(head.conversation, []).append(head.last_id)
        complete = min((ids[-1] for ids in of_each.values() if len(ids) == count), default=ENDLESS)
        found = 0
        for head in heads:
            if head.last_id > complete:
                break
            found += _least(head, seen[head.conversation])
            if found >= limit:
                return heads, head.last_id
        if complete == ENDLESS:
            return heads, ENDLESS
        count *= 4


def _least(head: Head, visible: VisibleRange) -> int:
    """Returns how many of a block's messages the user sees, at least."""
    if any(low < head.first_id and head.last_id < high for low, high in visible.intervals):
        return head.messages
    return int(visible.holds(head.first_id) or visible.holds(head.last_id))


def _oldest(data: Sequence[bytes], seen: Mapping[str, VisibleRange], limit: int) -> list[Message]:
    """Returns the oldest visible messages. The user's sent messages are in a separate conversation, whatever their
    topic."""
    sent = next((visible for name, visible in seen.items() if sender_of(name)), VisibleRange("", ()))
    messages = [
        message for each in data for message in unpack(each) if seen.get(message.topic, sent).holds(message.mid)
    ]
    messages.sort()
    return messages[:limit]
