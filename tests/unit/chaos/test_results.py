"""Sessions of the campaign add up, and the page and the README say what they found."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.__main__ import DOCS
from tests.chaos.faults import faults
from tests.chaos.page import headline, render, with_line
from tests.chaos.results import Results, Session
from tests.chaos.rounds import Outcome
from tests.chaos.workloads import workloads

ROUND = Outcome(
    ["Redis: killed"],
    ["groups"],
    seconds=20.0,
    acknowledged=100,
    first_204=1.0,
    first_pull=0.5,
    full_speed=2.0,
    silent=3.0,
    statuses=Counter({"204": 100, "503": 7}),
)
PAIR = Outcome(
    ["Redis: killed", "service: killed"], ["tags"], acknowledged=50, broken=Counter({"LOST": 2}), details=["LOST: …"]
)


def session() -> Session:
    return Session("7", "2026-01-02 03:04", "a machine", "abc")


def test_sessions_add_up(tmp_path: Path) -> None:
    """Each begins with what is kept of those before it."""
    file = tmp_path / "reliability.json"
    for outcome in (ROUND, PAIR):
        results = Results.read(file)
        results.sessions.append(session())
        results.add(results.sessions[-1], "1", outcome)
        results.write(file)
    results = Results.read(file)
    assert (results.rounds, results.acknowledged, results.pairs, len(results.sessions)) == (2, 150, 1, 2)
    assert {name: (each.times, each.alone) for name, each in results.faults.items()} == {
        "Redis: killed": (2, 1),
        "service: killed": (1, 0),
    }
    assert results.faults["Redis: killed"].measured["first_204"] == [1.0]
    assert results.rounds_broken == ["2026-01-02 03:04, seed 7, round 1, Redis: killed and service: killed: LOST 2"]


def test_what_was_lost_stands_on_the_page_and_in_the_readme() -> None:
    results = Results()
    results.sessions.append(session())
    for outcome in (ROUND, PAIR):
        results.add(results.sessions[-1], "1", outcome)
    page = render(results)
    assert "| lost | acknowledged, and missing from a pull that began later | 2 |" in page
    assert "| Redis: killed | 2 | 150 | 2 | 0 | 0 | 0 | 1.0, 1.0 |" in page
    line = headline(results)
    assert "150 messages" in line
    assert "2 were lost" in " ".join(line.split())
    readme = "- **Measured reliability**: old\n  and old\n- next\n"
    assert with_line(readme, results) == f"{line}- next\n"


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
