"""One process's part of what a sender may write in a minute."""

import pytest

from store.errors import SenderOverBudget
from store.redis import budget as module
from store.redis.budget import NOT_JUDGED, Budget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ticking = Clock()
    monkeypatch.setattr(module, "monotonic", ticking)
    return ticking


AT = 1_796_000_000_000 - 1_796_000_000_000 % 60_000 + 20_500
"""Milliseconds: twenty seconds and a half after a minute began."""


def test_redis_is_asked_from_an_eighth_on_and_told_of_all(clock: Clock) -> None:
    budget = Budget(800, 80)
    charges = [budget.charge("1", size, AT) for size in (1, 30, 60, 1, 200)]
    assert charges == [NOT_JUDGED, NOT_JUDGED, NOT_JUDGED, 110, 200]
    assert budget.charge("2", 1, AT) == NOT_JUDGED, "everybody has their own account"
    assert budget.charge("1", 1, AT + 60_000) == budget.charge("1", 1, AT - 60_000) == NOT_JUDGED, "one each minute"
    assert budget.charge("1", 1, AT + 39_000) == 10
    clock.now += 61
    assert budget.charge("1", 1, AT) == 10, "the minute is the broker's"


def test_for_what_goes_to_many_redis_is_asked_always(clock: Clock) -> None:
    budget = Budget(800, 80)
    assert budget.charge("1", 1, AT) == NOT_JUDGED
    assert budget.charge_for_many("1", AT) == 10
    assert budget.charge_for_many("1", AT) == 0
    charges = [budget.charge("1", 60, AT), budget.charge("1", 60, AT), budget.charge_for_many("1", AT)]
    assert charges == [NOT_JUDGED, 120, 0]


def test_the_minute_that_redis_says_is_used_up_is_closed_until_it_ends(clock: Clock) -> None:
    budget = Budget(800, 80)
    assert budget.close("1", AT).retry_after == 40
    for later, left in ((0, 40), (499, 40), (500, 39), (39_499, 1)):
        with pytest.raises(SenderOverBudget) as over:
            budget.charge("1", 1, AT + later)
        assert over.value.retry_after == left
        with pytest.raises(SenderOverBudget):
            budget.charge_for_many("1", AT + later)
    assert budget.charge("2", 1, AT) == NOT_JUDGED
    assert budget.charge("1", 1, AT + 39_500) == NOT_JUDGED


def test_a_clock_of_the_brokers_that_stands_still_shuts_nobody_out(clock: Clock) -> None:
    budget = Budget(800, 80)
    budget.close("1", 0)
    for _ in range(3):
        clock.now += 60
        budget.charge("2", 1, 0)
    assert budget.charge("1", 1, 0) == NOT_JUDGED


def test_what_is_known_of_minutes_long_past_is_forgotten(clock: Clock) -> None:
    budget = Budget(800, 80)
    for number in range(1000):
        clock.now += 1
        budget.charge("1", 1, number * 60_000)
    assert len(budget._minutes) <= 180


def test_what_is_refused_is_bounded_too(clock: Clock) -> None:
    budget = Budget(800, 80)
    for _ in range(81):
        budget.charge_refused("1", 1, AT)
    with pytest.raises(SenderOverBudget) as over:
        budget.charge_refused("1", 1, AT)
    assert over.value.retry_after == 40
    budget.charge_refused("1", 1, AT + 40_000)


def test_the_service_operators_and_what_is_replayed_have_no_bound(clock: Clock) -> None:
    budget = Budget(1, 1, ["ops"])
    for _ in range(3):
        for sender in ("0", "ops"):
            assert budget.charge(sender, 100, AT) == budget.charge_for_many(sender, AT) == NOT_JUDGED
            budget.charge_refused(sender, 100, AT)
        assert budget.charge("1", 100, None) == budget.charge_for_many("1", None) == NOT_JUDGED
