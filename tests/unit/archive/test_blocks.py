"""Blocks: what goes in comes out, cut where it must be."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.addresses import sender_of, sent_conversation
from store.archive.tables.blocks import BLOCK_BYTES, BLOCK_MESSAGES, Block, Cutter, pack, unpack
from store.errors import ArchiveAway
from store.record import Message, encode


def message(mid: int, payload: bytes = b"{}", topic: str = "single/1002") -> Message:
    return Message(mid, topic, "1001", f"{mid:032x}", 1763900000000, payload.startswith(b"{"), payload)


def cut(messages: list[tuple[str, Message]]) -> list[Block]:
    cutter = Cutter()
    blocks = [cutter.add(*each) for each in messages] + [cutter.rest()]
    assert cutter.rest() is None
    return [block for block in blocks if block is not None]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_payloads_of_any_bytes_come_back(payloads: list[bytes]) -> None:
    messages = [message(number, payload) for number, payload in enumerate(payloads, 1)]
    assert list(unpack(pack([encode(each) for each in messages]))) == messages


def test_a_block_of_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(ArchiveAway, match="later version"):
        list(unpack(b"\x02" + pack([b""])[1:]))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 200), st.sampled_from([10, 3000, BLOCK_BYTES, 200_000])), max_size=5
    )
)
def test_blocks_hold_everything_once_in_order(runs: list[tuple[int, int, int]]) -> None:
    messages = []
    for number, (_, count, size) in enumerate(runs):
        count = min(count, 300_000 // size)
        messages += [(f"group/{number}", message(mid, b"x" * size, f"group/{number}")) for mid in range(1, count + 1)]
    blocks = cut(messages)
    assert [(block.conversation, each) for block in blocks for each in unpack(block.data)] == messages
    for block in blocks:
        inside = list(unpack(block.data))
        assert (block.first_id, block.last_id, block.messages) == (inside[0].mid, inside[-1].mid, len(inside))
        assert len(inside) <= BLOCK_MESSAGES
        assert len(inside) == 1 or sum(len(encode(each)) for each in inside) <= BLOCK_BYTES
    for block, following in pairwise(blocks):
        assert block.conversation != following.conversation or block.last_id < following.first_id


def test_messages_of_one_conversation_fill_their_block() -> None:
    blocks = cut([("a", message(mid)) for mid in range(BLOCK_MESSAGES * 2 + 1)])
    assert [block.messages for block in blocks] == [BLOCK_MESSAGES, BLOCK_MESSAGES, 1]


def test_sent_messages_have_a_conversation_of_their_own() -> None:
    assert sender_of(sent_conversation("1001")) == "1001"
    assert sender_of(sent_conversation("")) == ""
    assert [sender_of(name) for name in ("", "single/1001", "group/1", "business/global")] == [None] * 4
