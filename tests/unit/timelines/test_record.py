"""A message as bytes, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.record import Message, decode, encode_tail

LINES = st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]))


@given(
    mid=st.integers(0, 2**53 - 1),
    topic=LINES,
    sender=LINES,
    client_id=LINES,
    ts=st.integers(0, 2**53 - 1),
    json=st.booleans(),
    payload=st.binary(),
)
def test_a_record_reads_as_it_was_written(
    mid: int, topic: str, sender: str, client_id: str, ts: int, json: bool, payload: bytes
) -> None:
    record = b"%d\n" % mid + encode_tail(topic, sender, client_id, ts, json, payload)
    assert decode(record) == Message(mid, topic, sender, client_id, ts, json, payload)


@pytest.mark.parametrize("fields", [("a\nb", "s", "i"), ("t", "s\n", "i"), ("t", "s", "\ni")])
def test_a_line_break_in_a_field_is_refused(fields: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        encode_tail(*fields, 1, True, b"{}")
