from datetime import UTC, datetime

import pytest

from store.archive.tables.months import Month, Roaming, droppable_before, month_of, months_between, months_to_make


def us(year: int, month: int, day: int = 1, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000_000


DAY = 86_400_000_000


def test_a_month_has_names() -> None:
    assert month_of(us(2026, 11, 23)) == Month(us(2026, 11), us(2026, 12))
    assert month_of(us(2026, 12, 31, 23)) == month_of(us(2027, 1) - 1) == Month(us(2026, 12), us(2027, 1))
    assert (month_of(0).label, month_of(0).partition) == ("1970-01", "p197001")


def test_months_that_are_over() -> None:
    assert months_between(us(2026, 11, 5), us(2026, 12) - 1) == []
    assert months_between(us(2026, 11, 5), us(2026, 12)) == [month_of(us(2026, 11))]
    assert len(months_between(us(2024, 1, 31), us(2026, 1, 31))) == 24


def test_the_first_time_this_month_and_three_more_are_made() -> None:
    made = months_to_make(None, us(2026, 11, 23))
    assert [month.partition for month in made] == ["p202611", "p202612", "p202701", "p202702"]
    assert [month.edge for month in made] == [us(2026, 12), us(2027, 1), us(2027, 2), us(2027, 3)]


def test_nothing_is_made_when_enough_months_are_ahead() -> None:
    assert months_to_make(us(2027, 3), us(2026, 11, 30, 23)) == []
    assert months_to_make(us(2040, 1), us(2026, 11, 30, 23)) == []


def test_a_new_month_adds_one() -> None:
    assert months_to_make(us(2027, 3), us(2026, 12)) == [Month(us(2027, 3), us(2027, 4))]


def test_months_missed_while_nothing_ran_are_made_too() -> None:
    names = [month.partition for month in months_to_make(us(2024, 2), us(2024, 4, 30))]
    assert names == ["p202402", "p202403", "p202404", "p202405", "p202406", "p202407"]


@pytest.mark.parametrize(("roaming", "days"), [("week", 39), ("month", 62), ("quarter", 123), ("year", 397)])
def test_what_no_pull_reaches_goes_a_month_later(roaming: Roaming, days: int) -> None:
    now = us(2026, 11, 23)
    assert droppable_before(roaming, 7.0, now) == now - days * DAY
    assert droppable_before(roaming, 7.0, days * DAY - 1) == 0


def test_a_longer_retention_keeps_rows_longer() -> None:
    now = us(2026, 11, 23)
    assert droppable_before("week", 20.5, now) == now - 52 * DAY - DAY // 2
