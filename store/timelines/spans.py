"""Where messages lie in Redis, by the time in their ids.

Time is cut into spans. A body, the record, lies once, in the hash of its span; inboxes have its id, in a sorted set for
each span. Both are numbered by the first digits of an id, so that scripts find them without arithmetic
(`lua/include/bodies.lua`), and both leave Redis as a whole. A span is so short that Redis keeps an inbox of it packed,
and so long that a key costs little and a pull of many messages asks for few of them: `docs/benchmarks/bodies.md` has
the figures.
"""

SPAN_SECONDS = 10_000
MARGIN_SECONDS = 86_400
"""How long after the window a span expires, should nobody take it away before."""


def span(mid: int) -> int:
    return mid // (SPAN_SECONDS * 1_000_000)


def spans(oldest: int, newest: int) -> range:
    """Returns the spans of the ids between two, both included."""
    return range(span(oldest), span(newest) + 1)
