"""The model of links holds what it promises; and each fault that is planted in it is found."""

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.timelines.links_model import GROUP, Links


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
    *("too much", "link from its beginning"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_it_is_found(fault: str) -> None:
    with pytest.raises(AssertionError):
        explore(1000, fault)


def test_members_are_put_back_as_they_were_where_the_link_goes_on() -> None:
    """So rare a course of events that it is played by hand: a member leaves while their shard is rebuilt."""

    def play(*faults: str) -> None:
        links = type("Links", (Links,), {"faults": frozenset(faults)})()
        links.join_or_leave(1)
        links.lose_all(1)
        links.send(0, GROUP, 1)
        links.join_or_leave(1)
        links.rebuild_one()
        links.teardown()

    play()
    with pytest.raises(AssertionError):
        play("members of now")
