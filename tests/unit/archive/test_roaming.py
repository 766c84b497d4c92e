"""Where what lies between two ids is read from."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.addresses import sent_conversation
from store.archive.tables import roaming
from store.archive.tables.blocks import BLOCK_MESSAGES, Cutter
from store.archive.tables.months import Month
from store.archive.tables.roaming import Head, Span, pieces
from store.archive.tables.visible_range import VisibleRange
from store.record import Message

IDS = st.integers(0, 60)


@st.composite
def months(draw: st.DrawFn) -> list[Month]:
    """Some of the months 0-10, 10-20, …"""
    return [Month(start, start + 10) for start in sorted(draw(st.sets(st.sampled_from(range(0, 60, 10)))))]


@given(after=st.integers(-1, 60), before=IDS, aggregated=months())
def test_pieces_cover_everything_once(after: int, before: int, aggregated: list[Month]) -> None:
    found = list(pieces(after, before, aggregated))
    ids = [(in_blocks, id_) for in_blocks, low, high in found for id_ in range(low + 1, high)]
    assert ids == [
        (any(month.start <= id_ < month.edge for month in aggregated), id_) for id_ in range(after + 1, before)
    ]
    assert all(one[0] != other[0] for one, other in pairwise(found)), "neighbours are one"
    assert all(low + 1 < high for _, low, high in found)


class Tables:
    """Blocks and rows in memory; rows of months that are aggregated are gone."""

    def __init__(self, messages: Sequence[Message], aggregated: Sequence[Month]) -> None:
        self._aggregated = list(aggregated)
        self._rows = [m for m in messages if not any(x.start <= m.mid < x.edge for x in aggregated)]
        self._blocks = []
        self.read = 0
        for month in aggregated:
            inside = [m for m in messages if month.start <= m.mid < month.edge]
            named = [(m.topic, m) for m in inside]
            named += [(sent_conversation(m.sender), m) for m in inside if to_another(m)]
            cutter = Cutter()
            for name, message in sorted(named):
                if block := cutter.add(name, message):
                    self._blocks.append(block)
            if block := cutter.rest():
                self._blocks.append(block)

    async def aggregated(self) -> list[Month]:
        return self._aggregated

    async def heads(self, ranges: Sequence[VisibleRange], limit: int) -> list[Head]:
        heads: list[Head] = []
        for name, intervals in ranges:
            after, before = intervals[0][0], intervals[-1][1]
            of_name = [b for b in self._blocks if b.conversation == name and b.last_id > after and b.first_id < before]
            heads += [Head(*block[:4]) for block in of_name[:limit]]
        return sorted(heads, key=lambda head: head.last_id)

    async def data(self, spans: Sequence[Span]) -> list[bytes]:
        found = [
            block.data
            for span in spans
            for block in self._blocks
            if block.conversation == span.conversation and span.after < block.last_id <= span.last_id
        ]
        self.read += len(found)
        return found

    async def rows(self, ranges: Sequence[VisibleRange], limit: int) -> list[Message]:
        return [message for message in self._rows if seen(message, ranges)][:limit]


def seen(message: Message, ranges: Sequence[VisibleRange]) -> bool:
    return any(
        visible.holds(message.mid)
        and (
            message.topic == visible.conversation
            or (visible.conversation == sent_conversation(message.sender) and to_another(message))
        )
        for visible in ranges
    )


def to_another(message: Message) -> bool:
    return message.topic.startswith("single/") and message.topic != f"single/{message.sender}"


NAMES = ("single/1", "single/2", "single/3", "business/global", "group/7", "group/8")


def some_intervals(chance: random.Random) -> tuple[tuple[int, int], ...]:
    """Builds the rows of a member who came and went."""
    ends = sorted(chance.sample(range(60_000), 2 * chance.randrange(1, 4)))
    return tuple(zip(ends[::2], ends[1::2], strict=True))


@pytest.mark.parametrize("seed", range(300))
async def test_blocks_and_rows_read_like_rows(seed: int) -> None:
    chance = random.Random(seed)
    count, busy = chance.choice([1, 5, 50, 500, 1500]), chance.randrange(1, 20)
    ids = sorted(chance.sample(range(60_000), count))
    messages: list[Message] = []
    while len(messages) < count:
        topic, sender = chance.choice(NAMES), chance.choice("123")
        run = ids[len(messages) :][: chance.randrange(1, busy * 10)]
        messages += [Message(mid, topic, sender, f"{mid}", 1, True, b"{}") for mid in run]
    tables = Tables(
        messages, [Month(each, each + 10_000) for each in range(0, 60_000, 10_000) if chance.random() < 0.6]
    )
    ranges = [VisibleRange("single/1"), VisibleRange("business/global")]
    ranges += [VisibleRange(group, some_intervals(chance)) for group in ("group/7", "group/8")]
    for _ in range(5):
        after = chance.choice([chance.randrange(-1, 60_000), chance.choice(ids)])
        before = chance.choice([60_000, chance.randrange(after, 60_001), chance.choice(ids)])
        limit = chance.choice([1, 2, 7, 63, 64, 65, 150, 1001])
        wanted = [
            m for m in messages if after < m.mid < before and seen(m, [VisibleRange(sent_conversation("1")), *ranges])
        ]
        assert await roaming.read(tables, tables.rows, ranges, "1", after, before, limit) == wanted[:limit]


async def test_any_number_of_conversations_is_read() -> None:
    messages = [
        Message(1000 + number, f"group/{number % 250}", "9", f"{number}", 1, True, b"{}") for number in range(2000)
    ]
    ranges = [VisibleRange(f"group/{gid}", ((0, 1500), (2000, 5000))) for gid in range(250)]
    for aggregated in ([], [Month(0, 2500)]):
        tables = Tables(messages, aggregated)
        for limit in (1, 7, 1001):
            wanted = [message for message in messages if seen(message, ranges)]
            assert await roaming.read(tables, tables.rows, ranges, "1", 0, 100_000, limit) == wanted[:limit]


async def test_only_the_blocks_that_are_needed_are_read() -> None:
    messages = [Message(number, "business/global", "9", f"{number}", 1, True, b"{}") for number in range(1, 10_001)]
    messages += [Message(20_000 + number, "single/1", "9", f"{number}", 1, True, b"{}") for number in range(1000)]
    tables = Tables(messages, [Month(0, 100_000)])
    page = await roaming.read(
        tables, tables.rows, [VisibleRange("single/1"), VisibleRange("business/global")], "1", 5000, 100_000, 201
    )
    assert [message.mid for message in page] == list(range(5001, 5202))
    assert tables.read <= 201 // BLOCK_MESSAGES + 2
