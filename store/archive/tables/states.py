"""Users' states, as rows and as entries of the outbox."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class StateRow(NamedTuple):
    """changed: id of the newest change. name, value: see `include/states.lua`."""

    uid: int
    name: bytes
    changed: int
    value: bytes


class StateTables(Protocol):
    """Rows may come in any order, and more than once: of each state the newest counts."""

    async def store_states(self, rows: Sequence[StateRow]) -> None:
        """Stores the newest of each. Raises ArchiveAway, ArchiveRefused."""

    async def delete_states(self, rows: Sequence[StateRow]) -> None:
        """Deletes those that did not change later. Raises ArchiveAway."""

    async def states(self, after: tuple[int, bytes], limit: int) -> list[StateRow]:
        """Returns those after one (uid, name), in that order. Raises ArchiveAway."""

    async def newest_states(self, highest: int, limit: int) -> list[StateRow]:
        """Returns the `limit` states that changed last, of those that changed up to an id; newest first.

        Raises ArchiveAway.
        """


def decode_state(data: bytes) -> StateRow:
    """Reads `uid\\nchanged\\nlength of the name\\nname`, then the value. Raises ValueError."""
    uid, changed, length, rest = data.split(b"\n", 3)
    if int(length) > len(rest):
        raise ValueError("the name is cut")
    return StateRow(int(uid), rest[: int(length)], int(changed), rest[int(length) :])


def newest_of_each(rows: Iterable[StateRow]) -> list[StateRow]:
    """Returns one for each state, in one order: writers that lock rows in one order do not wait for each other in a
    circle.
    """
    newest: dict[tuple[int, bytes], StateRow] = {}
    for row in rows:
        known = newest.get(row[:2])
        if known is None or known.changed < row.changed:
            newest[row[:2]] = row
    return [newest[each] for each in sorted(newest)]
