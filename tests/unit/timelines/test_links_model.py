"""The model of links holds what it promises; and each fault that is planted in it is found.

The model as it is meant is explored at random. A fault may need a rare course of events, so those are played by hand.
"""

from collections.abc import Callable

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.timelines.links_model import GROUP, Links

STEPS: dict[str, Callable[[Links], object]] = {
    "send": lambda links: links.send(0, 1, 1),
    "send within the home": lambda links: links.send(0, 3, 1),
    "send to the group": lambda links: links.send(0, GROUP, 1),
    "send again": lambda links: links.send_again(-1),
    "carry": lambda links: links.carry(-1, dies=False, answer_is_lost=False),
    "carry the first": lambda links: links.carry(0, dies=False, answer_is_lost=False),
    "join or leave": lambda links: links.join_or_leave(1),
    "pull": lambda links: links.pull(1, 100),
    "beat": lambda links: links.beat(1, carries=False),
    "a minute passes": lambda links: links.trim(1),
    "the home loses the last": lambda links: links.lose_home(-1, emptied=False, somebody_knows=False),
    "the home loses what is known": lambda links: links.lose_home(-1, emptied=False, somebody_knows=True),
    "the home loses all": lambda links: links.lose_home(-1, emptied=True, somebody_knows=False),
    "the shard loses the last": lambda links: links.lose_some(1, -1),
    "the shard loses all": lambda links: links.lose_all(1),
    "the shard is rebuilt": lambda links: links.rebuild_one(),
    "reshard": lambda links: links.reshard(2),
    "the end": lambda links: links.teardown(),
}
"""User 1 belongs to shard 1; users 0 and 3 to the home, but among two shards user 3 belongs to shard 1, too."""

COURSES = {
    "any life": ["send", "the home loses the last", "carry"],
    "twice": ["send", "send again", "carry"],
    "gaps": ["send", "send", "carry"],
    "repeats": ["send", "send again"],
    "told before": ["send", "carry"],
    "beats": ["send", "beat", "carry"],
    "clock": ["send", "carry"],
    "lives begin anew": ["join or leave", "the home loses the last", "send", "the home loses all", "carry"],
    "no fence": ["send", "the home loses the last", "carry"],
    "tails": ["send", "carry", "the home loses the last"],
    "floor": ["send", "the home loses the last", "send", "carry"],
    "id alone": ["send", "the home loses the last", "send", "carry", "carry the first"],
    "used at once": ["send", "carry", "the shard loses the last", "pull"],
    "trims all": ["send", "a minute passes"],
    "trims at once": ["send", "carry", "a minute passes", "the shard loses the last"],
    "not archived": ["send", "carry", "the shard loses all", "the shard is rebuilt"],
    "members": ["join or leave", "reshard"],
    "members of now": [
        *("join or leave", "the shard loses all", "send to the group", "join or leave", "the shard is rebuilt")
    ],
    "epoch": ["send within the home", "carry", "the home loses what is known"],
    "another number": ["reshard", "send within the home", "carry"],
    "too much": ["the shard loses all", "send", "the shard is rebuilt"],
    "link from its beginning": [
        *("send", "carry", "a minute passes", "a minute passes", "the shard loses all", "the shard is rebuilt")
    ],
}
"""For each fault what has to happen for it to be seen."""


def play(course: list[str], *faults: str) -> None:
    links = Links()
    links.faults = frozenset(faults)
    for step in [*course, "the end"]:
        STEPS[step](links)
        links.what_was_told_is_kept()
        links.pull_at_once()


def test_nothing_is_skipped_or_comes_twice() -> None:
    run_state_machine_as_test(
        Links, settings=settings(max_examples=300, stateful_step_count=20, phases=[Phase.generate], database=None)
    )


@pytest.mark.parametrize("fault", COURSES)
def test_a_fault_in_it_is_found(fault: str) -> None:
    play(COURSES[fault])
    with pytest.raises(AssertionError):
        play(COURSES[fault], fault)
