"""Which months the message table is cut into, and which of them may go. Ids and edges are microseconds."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

AHEAD = 3
"""Months made before they begin."""

_DAY = 86_400_000_000
_MONTH_DAYS = 31
_ROAMING_DAYS = {"week": 7, "month": _MONTH_DAYS}


class Month(NamedTuple):
    """A partition: all ids below `edge` that are in no earlier one."""

    name: str
    edge: int


def _start(id_: int) -> datetime:
    """When the month of an id begins, UTC."""
    day = datetime.fromtimestamp(id_ // 1_000_000, UTC)
    return datetime(day.year, day.month, 1, tzinfo=UTC)


def _next(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)


def months_to_make(last_edge: int | None, now: int) -> list[Month]:
    """The months from `last_edge`, or from now if there are none yet, up to `AHEAD` months after now's."""
    start = _start(now if last_edge is None else last_edge)
    end = _start(now)
    for _ in range(AHEAD):
        end = _next(end)
    months = []
    while start <= end:
        after = _next(start)
        months.append(Month(f"p{start:%Y%m}", int(after.timestamp()) * 1_000_000))
        start = after
    return months


def droppable_before(roaming: str, retention_days: float, now: int) -> int:
    """The id below which no row is needed: what is older than the roaming window and a month more.

    0 for `quarter` and `year`: their rows are needed until they have been aggregated.
    """
    if roaming not in _ROAMING_DAYS:
        return 0
    days = max(_ROAMING_DAYS[roaming], retention_days) + _MONTH_DAYS
    return max(0, now - int(days * _DAY))
