"""Tests the outbox's entries about tags."""

import pytest

from store.archive.tables.tags import HolderRow, TagRow, decode_holders, decode_tag


def test_a_tag() -> None:
    assert decode_tag("t.1\n1\n10\n0\n20\nTwo\nlines ü".encode()) == TagRow("t.1", True, 10, 0, 20, "Two\nlines ü")


def test_holders_of_several_changes() -> None:
    assert decode_holders(b"t\n20\n7:10:0:3\n8:10:20:0\n30\n7:10:30:0") == [
        HolderRow("t", 7, 10, 0, 3, 20),
        HolderRow("t", 8, 10, 20, 0, 20),
        HolderRow("t", 7, 10, 30, 0, 30),
    ]


@pytest.mark.parametrize("data", [b"t\n1\n10\n0\n20", b"t\n1\nx\n0\n20\n", b"\xff\n1\n1\n1\n1\n"])
def test_what_is_no_tag(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_tag(data)


@pytest.mark.parametrize("data", [b"t\nx", b"t\n20\n7:10:0", b"t\n20\n7:10:0:3:4", b"t\n20\nx:10:0:3", b"\xff\n20"])
def test_what_are_no_holders(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_holders(data)
