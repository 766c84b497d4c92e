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


def test_redis_is_asked_from_an_eighth_on_and_told_of_all(clock: Clock) -> None:
    budget = Budget(800, 80)
    charges = [budget.charge("1", size) for size in (1, 30, 60, 1, 200)]
    assert charges == [NOT_JUDGED, NOT_JUDGED, NOT_JUDGED, 110, 200]
    assert budget.charge("2", 1) == NOT_JUDGED, "everybody has an account of their own"
    clock.now += 60
    assert budget.charge("1", 1) == NOT_JUDGED, "and a new one each minute"


def test_for_what_goes_to_many_redis_is_asked_always(clock: Clock) -> None:
    budget = Budget(800, 80)
    assert budget.charge("1", 1) == NOT_JUDGED
    assert budget.charge_for_many("1") == 10
    assert budget.charge_for_many("1") == 0
    assert [budget.charge("1", 60), budget.charge("1", 60), budget.charge_for_many("1")] == [NOT_JUDGED, 120, 0]


def test_who_is_over_it_waits_as_long_as_redis_says(clock: Clock) -> None:
    budget = Budget(800, 80)
    budget.close("1", 70)
    for seconds, left in ((0, 70), (30.5, 40), (39.4, 1)):
        clock.now += seconds
        with pytest.raises(SenderOverBudget) as over:
            budget.charge("1", 1)
        assert over.value.retry_after == left
        with pytest.raises(SenderOverBudget):
            budget.charge_for_many("1")
    assert budget.charge("2", 1) == NOT_JUDGED
    clock.now += 0.2
    assert budget.charge("1", 1) == NOT_JUDGED


def test_what_is_refused_is_bounded_too(clock: Clock) -> None:
    budget = Budget(800, 80)
    clock.now += 10
    for _ in range(80):
        budget.charge_refused("1", 1)
    clock.now += 20
    budget.charge_refused("1", 1)
    with pytest.raises(SenderOverBudget) as over:
        budget.charge_refused("1", 1)
    assert over.value.retry_after == 40
    clock.now += 41
    budget.charge_refused("1", 1)


def test_the_service_and_operators_have_no_bound(clock: Clock) -> None:
    budget = Budget(1, 1, ["ops"])
    for sender in ("0", "ops"):
        for _ in range(3):
            assert budget.charge(sender, 100) == budget.charge_for_many(sender) == NOT_JUDGED
            budget.charge_refused(sender, 100)
