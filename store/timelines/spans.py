"""Where messages lie in Redis, by the time in their ids.

A body, the record, lies once, in the hash of its span; inboxes have its id, in a sorted set for each piece of time.
Both are numbered by the first digits of an id, so that scripts find them without arithmetic
(`lua/include/bodies.lua`), and both leave Redis as a whole. A piece is so short that Redis keeps it packed, and so long
that its key costs little; a span is so short that nobody waits while one goes: `docs/benchmarks/bodies.md` has the
figures.
"""

PIECE_SECONDS = 10_000
SPAN_SECONDS = 1_000
MARGIN_SECONDS = 86_400
"""How long after the window both expire, should nobody take them away before."""


def piece(mid: int) -> int:
    return mid // (PIECE_SECONDS * 1_000_000)


def span(mid: int) -> int:
    return mid // (SPAN_SECONDS * 1_000_000)


def pieces(oldest: int, newest: int) -> range:
    """Returns the pieces of the ids between two, both included."""
    return range(piece(oldest), piece(newest) + 1)
