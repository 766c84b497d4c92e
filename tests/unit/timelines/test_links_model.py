"""The model of links holds what it promises; and each fault that is planted in it is found."""

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.timelines.links_model import Links


def explore(examples: int, *faults: str) -> None:
    machine = type("Links", (Links,), {"faults": frozenset(faults)})
    phases = [Phase.generate]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=20, phases=phases, database=None)
    )


def test_nothing_is_skipped_or_comes_twice() -> None:
    explore(100)


FAULTS = [
    *("any life", "twice", "gaps", "repeats", "told before", "beats", "clock"),
    *("lives begin anew", "no fence", "tails", "floor", "id alone", "used at once"),
    *("trims all", "trims at once", "not archived", "members", "epoch", "another number"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_it_is_found(fault: str) -> None:
    with pytest.raises(AssertionError):
        explore(1000, fault)
