"""Merging the sources of one user's sequence: no gap, no repeat, whatever each source was cut at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.api.pull import render
from store.record import Message
from store.timelines.pull import MAX_BYTES, Pulled, Source, merge

IDS = st.integers(1, 60)


def message(mid: int, payload: bytes = b"{}", *, json: bool = True) -> Message:
    return Message(mid, "single/1002", "1001", f"{mid:064}", 1763900000000, json, payload)


@st.composite
def sources(draw: st.DrawFn) -> tuple[list[list[int]], int, int]:
    """Returns ids by source, no id in two of them; a cursor; the clock."""
    ids = sorted(draw(st.sets(IDS)))
    owners = draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids)))
    clock = draw(st.integers(max(ids, default=0), 70))
    cursor = draw(st.integers(0, 75))
    return [[i for i, owner in zip(ids, owners, strict=True) if owner == n] for n in range(3)], cursor, clock


def read(ids: list[int], cursor: int, clock: int, most: int) -> Source:
    """Returns a source as Redis gives it: after the cursor, at most so many; then it is complete up to its last one."""
    later = [i for i in ids if i > cursor]
    cut = later[:most]
    return Source([message(i) for i in cut], cut[-1] if len(later) > most else clock)


@given(state=sources(), limit=st.integers(1, 8), most=st.integers(1, 8), count=st.integers(1, 3))
def test_one_pull_is_a_gapless_piece_of_the_sequence(
    state: tuple[list[list[int]], int, int], limit: int, most: int, count: int
) -> None:
    lists, cursor, clock = state
    lists = lists[:count]
    messages, last_id, more = merge([read(ids, cursor, clock, most) for ids in lists], cursor, clock, limit)
    wanted = sorted(i for ids in lists for i in ids if i > cursor)
    given_ids = [each.mid for each in messages]
    assert given_ids == wanted[: len(given_ids)]
    assert len(given_ids) <= limit
    assert last_id >= cursor
    assert not [i for i in wanted[len(given_ids) :] if i <= last_id], "nothing is skipped"
    if not more:
        assert given_ids == wanted
        assert last_id == max(cursor, clock)


@given(state=sources(), limits=st.lists(st.integers(1, 5), min_size=1), most=st.integers(1, 5))
def test_a_chain_of_pulls_gives_everything_once(
    state: tuple[list[list[int]], int, int], limits: list[int], most: int
) -> None:
    lists, cursor, clock = state
    wanted = sorted(i for ids in lists for i in ids if i > cursor)
    received: list[int] = []
    for number in range(200):
        sources_now = [read(ids, cursor, clock, most) for ids in lists]
        messages, cursor, more = merge(sources_now, cursor, clock, limits[number % len(limits)])
        received += [each.mid for each in messages]
        if not more:
            break
    assert received == wanted


def test_what_lies_above_the_lowest_watermark_waits() -> None:
    slow = Source([message(1)], 3)
    fast = Source([message(2), message(4)], 9)
    assert merge([slow, fast], 0, 9, 10) == ([message(1), message(2)], 3, True)


def test_a_source_behind_the_cursor_gives_nothing() -> None:
    assert merge([Source([], 5), Source([message(8)], 9)], 7, 9, 10) == ([], 7, True)


@pytest.mark.parametrize("json", [True, False])
@pytest.mark.parametrize("size", [1, 1000, 16_384, 1_000_000])
def test_an_answer_is_cut_at_so_many_bytes(size: int, json: bool) -> None:
    ids = range(1, MAX_BYTES // (size + 64) + 3)
    source = Source([message(mid, b"1" * size, json=json) for mid in ids], ids[-1])
    merged, last_id, more = merge([source], 0, ids[-1], len(ids))
    messages = [each for each in merged if isinstance(each, Message)]
    answer = render(Pulled(messages, last_id, more, truncated=False, reset=False, epoch="x"), "key")
    assert more
    assert last_id == len(messages)
    assert len(answer) <= MAX_BYTES + 200
    assert len(answer) > MAX_BYTES * 0.8 - size * 4 / 3, "and not long before"


@pytest.mark.parametrize("json", [True, False])
def test_one_message_comes_however_large_it_is(json: bool) -> None:
    large = [message(mid, b"1" * 2 * MAX_BYTES, json=json) for mid in (1, 2)]
    assert merge([Source(large, 2)], 0, 2, 10) == (large[:1], 1, True)
