from datetime import UTC, datetime

import pytest

from store.archive.months import Month, droppable_before, months_to_make


def us(year: int, month: int, day: int = 1, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000_000


DAY = 86_400_000_000


def test_the_first_time_this_month_and_three_more_are_made() -> None:
    assert months_to_make(None, us(2026, 11, 23)) == [
        Month("p202611", us(2026, 12)),
        Month("p202612", us(2027, 1)),
        Month("p202701", us(2027, 2)),
        Month("p202702", us(2027, 3)),
    ]


def test_nothing_is_made_when_enough_months_are_ahead() -> None:
    assert months_to_make(us(2027, 3), us(2026, 11, 30, 23)) == []
    assert months_to_make(us(2040, 1), us(2026, 11, 30, 23)) == []


def test_a_new_month_adds_one() -> None:
    assert months_to_make(us(2027, 3), us(2026, 12)) == [Month("p202703", us(2027, 4))]


def test_months_missed_while_nothing_ran_are_made_too() -> None:
    names = [month.name for month in months_to_make(us(2024, 2), us(2024, 4, 30))]
    assert names == ["p202402", "p202403", "p202404", "p202405", "p202406", "p202407"]


@pytest.mark.parametrize(("roaming", "days"), [("week", 38), ("month", 62)])
def test_rows_go_a_month_after_the_roaming_window(roaming: str, days: int) -> None:
    now = us(2026, 11, 23)
    assert droppable_before(roaming, 7.0, now) == now - days * DAY


def test_a_longer_retention_keeps_rows_longer() -> None:
    now = us(2026, 11, 23)
    assert droppable_before("week", 20.5, now) == now - 51 * DAY - DAY // 2


@pytest.mark.parametrize("roaming", ["quarter", "year"])
def test_rows_to_be_aggregated_never_go(roaming: str) -> None:
    assert droppable_before(roaming, 7.0, us(2026, 11, 23)) == 0
