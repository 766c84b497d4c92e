"""Calendar months: parts of the tables, units of aggregation, and what may be deleted. Ids and edges are
microseconds."""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

AHEAD = 3
"""Months made before they begin."""

DAY = 86_400_000_000
Roaming = Literal["week", "month", "quarter", "year"]
_ROAMING_DAYS: dict[Roaming, int] = {"week": 0, "month": 30, "quarter": 91, "year": 365}
"""How far back a pull reaches; `week` is Redis's window alone."""
_KEPT_DAYS = 32
"""How much longer rows are kept: a month, and a day for clocks and pulls that are running."""

AGGREGATED: tuple[Roaming, ...] = ("quarter", "year")
"""The roaming windows that are read from blocks."""


class Month(NamedTuple):
    """A month, UTC. start: the id it begins with. edge: the id the next one begins with."""

    start: int
    edge: int

    @property
    def label(self) -> str:
        """Returns a label such as 2026-11."""
        return f"{_first_day(self.start):%Y-%m}"

    @property
    def partition(self) -> str:
        return f"p{_first_day(self.start):%Y%m}"


def _first_day(id_: int) -> datetime:
    day = datetime.fromtimestamp(id_ // 1_000_000, UTC)
    return datetime(day.year, day.month, 1, tzinfo=UTC)


def month_of(id_: int) -> Month:
    start = _first_day(id_)
    after = (start + timedelta(days=32)).replace(day=1)
    return Month(int(start.timestamp()) * 1_000_000, int(after.timestamp()) * 1_000_000)


def months_between(first: int, end: int) -> list[Month]:
    """Returns the month of the id `first` and those after it, as far as they are over at the id `end`."""
    found = []
    month = month_of(first)
    while month.edge <= end:
        found.append(month)
        month = month_of(month.edge)
    return found


def months_to_make(last_edge: int | None, now: int) -> list[Month]:
    """Returns the months from `last_edge`, or from now if there are none yet, up to `AHEAD` months after now's."""
    last = month_of(now)
    for _ in range(AHEAD):
        last = month_of(last.edge)
    return months_between(now if last_edge is None else last_edge, last.edge)


def days_back(roaming: Roaming, retention_days: float) -> float:
    """Returns how far back a pull reaches: the roaming window, never less than the window of Redis."""
    return max(_ROAMING_DAYS[roaming], retention_days)


def droppable_before(roaming: Roaming, retention_days: float, newest: int) -> int:
    """Returns the id below which no pull needs anything: older than the roaming window and a month more."""
    return max(0, newest - int((days_back(roaming, retention_days) + _KEPT_DAYS) * DAY))
