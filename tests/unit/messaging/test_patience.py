"""How long a connection may wait, in sum."""

import pytest

from hooks.messaging import patience
from hooks.messaging.patience import Asker, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def wait(patience: Patience, clock: Clock, seconds: float, connection: str = "1001-phone") -> float:
    """Returns how much of the seconds the connection was allowed to wait, and did."""
    with patience.wait(Asker(1001, connection)) as allowed:
        waited = min(seconds, allowed)
        clock.now += waited
    return waited


def test_what_was_waited_comes_back_slowly(clock: Clock) -> None:
    held = Patience(1.0, again=10.0)
    assert wait(held, clock, 0.25) == 0.25
    assert wait(held, clock, 5) == pytest.approx(0.75)
    assert wait(held, clock, 5) == pytest.approx(0.0)
    assert wait(held, clock, 5, "1001-tablet") == 1.0
    assert wait(held, clock, 5) == pytest.approx(0.1)
    clock.now += 100
    assert wait(held, clock, 5) == 1.0


def test_of_two_at_a_time_one_waits(clock: Clock) -> None:
    held = Patience(1.0, again=10.0)
    with held.wait(Asker(1001, "1001-phone")) as first, held.wait(Asker(1001, "1001-phone")) as second:
        assert (first, second) == (1.0, 0.0)
    assert wait(held, clock, 5) == 1.0


def test_those_who_waited_longest_ago_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_MAX_KEPT", 2)
    held = Patience(1.0, again=1000.0)
    for connection in "abc":
        assert wait(held, clock, 5, connection) == 1.0
    assert wait(held, clock, 5, "c") < 0.1
    assert wait(held, clock, 5, "a") == 1.0
