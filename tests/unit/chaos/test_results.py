"""Sessions of the campaign add up, and the page and the README say what they found."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.__main__ import DOCS
from tests.chaos.campaign import MEASURED, MESSAGES, PLAYS, chosen, is_complete, is_measured
from tests.chaos.faults import faults
from tests.chaos.page import headline, render, with_line
from tests.chaos.results import Kept, Results, Session
from tests.chaos.rounds import Episode, Outcome
from tests.chaos.workloads import workloads

ROUND = Outcome(
    ["groups"],
    [
        Episode(["Redis: killed"], 60, 1.0, 0.5, 2.0, 3.0, Counter({"204": 60, "503": 7})),
        Episode(["Redis: restarted"], 40, 0.1, 0.1, 0.2, 0.3, Counter({"204": 40})),
    ],
    seconds=20.0,
    acknowledged=100,
)
PAIR = Outcome(
    ["tags"],
    [Episode(["Redis: killed", "service: killed"], 50, 9.0, 9.0, 9.0, 9.0)],
    acknowledged=50,
    broken=Counter({"LOST": 2}),
    details=["LOST: …"],
)


def session(seed: str = "7") -> Session:
    return Session(seed, "2026-01-02 03:04", "a machine", "abc")


def test_sessions_add_up(tmp_path: Path) -> None:
    """Two that go on side by side, too: each adds to what the other has added meanwhile."""
    file = tmp_path / "reliability.json"
    first, second = Kept(file), Kept(file)
    first.add(session(), "1", ROUND, measured=True, not_possible=[])
    second.add(session("7.0"), "1", PAIR, measured=False, not_possible=[])
    first.add(session(), "2", ROUND, measured=False, not_possible=[])
    results = Results.read(file)
    assert (results.rounds, results.acknowledged, results.pairs) == (3, 250, 1)
    assert [(each.seed, each.rounds, each.acknowledged) for each in results.sessions] == [("7", 2, 200), ("7.0", 1, 50)]
    assert {name: (each.times, each.alone, each.acknowledged) for name, each in results.faults.items()} == {
        "Redis: killed": (3, 1, 170),
        "Redis: restarted": (2, 1, 80),
        "service: killed": (1, 0, 50),
    }
    assert results.faults["Redis: killed"].measured["first_204"] == [1.0]
    assert results.rounds_broken == ["2026-01-02 03:04, seed 7.0, round 1, Redis: killed and service: killed: LOST 2"]


def test_what_was_lost_stands_on_the_page_and_in_the_readme() -> None:
    results = Results()
    for outcome in (ROUND, PAIR):
        results.add(session(), "1", outcome, measured=True)
    page = render(results)
    assert "| lost | acknowledged, and missing from a pull that began later | 2 |" in page
    assert "| Redis: killed | 2 | 110 | 2 | 0 | 0 | 0 | 1.0, 1.0 |" in page
    line = headline(results)
    assert "150 messages" in line
    assert "2 were lost" in " ".join(line.split())
    readme = "- **Measured reliability**: old\n  and old\n- next\n"
    assert with_line(readme, results) == f"{line}- next\n"


def test_a_campaign_goes_on_until_every_fault_was_played_often_enough() -> None:
    results, only = Results(), chosen(["Redis: killed", "Redis: restarted"])
    for _ in range(MEASURED):
        assert not is_measured(results, only)
        results.add(session(), "1", ROUND, measured=True)
    assert is_measured(results, only)
    results.acknowledged = MESSAGES
    for _ in range(MEASURED, PLAYS):
        assert not is_complete(results, only)
        results.add(session(), "1", ROUND, measured=False)
    assert is_complete(results, only)
    results.acknowledged = MESSAGES - 1
    assert not is_complete(results, only)
    results.acknowledged, results.not_possible = MESSAGES, ["Redis: flushed"]
    assert is_complete(results, chosen(["Redis: flushed"]))


def test_the_page_and_the_readme_are_made_of_what_is_kept() -> None:
    results = Results.read(DOCS / "reliability.json")
    assert results.acknowledged > 0
    assert headline(results) in (DOCS.parent / "README.md").read_text()
    assert (DOCS / "reliability.md").read_text() == render(results), "make it anew: python -m tests.chaos --seconds 0"


@pytest.mark.parametrize("name", faults())
def test_each_fault_says_what_it_does(name: str) -> None:
    assert faults()[name].what.endswith(".")


def test_each_workload_says_what_it_does() -> None:
    assert all(kind.__doc__ and kind.name for kind in workloads())
    assert any(kind.always for kind in workloads())


def test_a_loss_is_not_played_with_what_holds_answers_back() -> None:
    """It could not be told which answers were given before it."""
    every = faults()
    wiped, silent, killed = every["Redis: wiped"], every["service: stopped"], every["service: killed"]
    assert not wiped.goes_with(silent)
    assert not silent.goes_with(wiped)
    assert not wiped.goes_with(every["Redis: flushed"])
    assert wiped.goes_with(killed)
    assert not killed.goes_with(killed)


def test_one_thing_is_not_broken_in_two_ways_at_once() -> None:
    """Each fault waits until what it broke is as it was."""
    every = faults()
    assert not every["cluster: master killed"].goes_with(every["cluster: slot moved"])
    assert every["cluster: master killed"].goes_with(every["service: killed"])
