"""The part of the archive's conversations that a user sees."""

from typing import NamedTuple

ENDLESS = 2**63 - 1
"""Above every id."""


class VisibleRange(NamedTuple):
    """intervals: pairs of ids, in order; the user sees the messages between the two ids of each, both excluded."""

    conversation: str
    intervals: tuple[tuple[int, int], ...] = ((0, ENDLESS),)

    def between(self, after: int, before: int) -> "VisibleRange":
        """Returns the part of it between two ids, which may have no interval."""
        cut = ((max(low, after), min(high, before)) for low, high in self.intervals)
        return VisibleRange(self.conversation, tuple((low, high) for low, high in cut if low + 1 < high))

    def holds(self, id_: int) -> bool:
        return any(low < id_ < high for low, high in self.intervals)
