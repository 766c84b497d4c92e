"""How long the states of one user can become in an answer."""

import re
from pathlib import Path

import orjson

from store.addresses import MAX_ID, Tag
from store.states.state import MAX_KEY, MAX_VALUE, UserState, block, mark, peers_mark, setting
from store.states.states import MAX_BLOCKS, MAX_MARKS, MAX_SETTINGS

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
MIB = 2**20


def length(*states: UserState) -> int:
    """Returns the bytes of the longest, with the comma behind it."""
    return max(len(orjson.dumps(state._replace(mid=MAX_ID).fields())) + 1 for state in states)


def test_states_of_before_the_window_are_as_long_as_the_page_says_at_most() -> None:
    """Those that are gone stay, too: as many as there may be."""
    # JSON writes it in six bytes.
    key = "\x01" * MAX_KEY
    marks = length(mark(Tag("t" * 64).topic, MAX_ID), peers_mark(MAX_ID, MAX_ID))
    settings = length(setting(key, "v" * (MAX_VALUE - 2))) + length(setting(key, None))
    blocks = length(block(MAX_ID, on=True)) + length(block(MAX_ID, on=False))
    most = MAX_MARKS * marks + MAX_SETTINGS * settings + MAX_BLOCKS * blocks
    (said,) = re.findall(r"come all at once, at most (\d+) MiB beside the messages", PAGE.read_text())
    assert int(said) - 1 < most / MIB <= int(said)
