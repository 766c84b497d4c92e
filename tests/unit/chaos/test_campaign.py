"""What the campaign chooses to play."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.campaign import MEASURED, Campaign
from tests.chaos.deployment import CLOCKED, CLUSTER, ON_CLUSTERS
from tests.chaos.faults import faults
from tests.chaos.results import Kept, Played

KINDS = ("redis", CLOCKED, *ON_CLUSTERS)


def campaign(seed: object, *only: str, alone: bool) -> Campaign:
    return Campaign(str(seed), Kept(None), disks=True, only=only, alone=alone, told=lambda line: None)


def deployment(kind: str, *, disks: bool = True) -> Any:
    return SimpleNamespace(kind=kind, disks=disks)


@given(seed=st.integers(), kind=st.sampled_from(KINDS), alone=st.booleans())
def test_a_round_plays_what_goes_together(seed: int, kind: str, alone: bool) -> None:
    chain = campaign(seed, alone=alone).choose(deployment(kind))
    every = [fault for link in chain for fault in link]
    assert len({fault.name for fault in every}) == len(every)
    assert all(fault.possible_on(deployment(kind)) for fault in every)
    assert len(chain) == 1 or not any(fault.by_itself for fault in every)
    assert all(len(link) == 1 or (not alone and link[0].goes_with(link[1])) for link in chain)


@pytest.mark.parametrize("name", faults())
def test_each_fault_can_be_played_somewhere(name: str) -> None:
    assert any(faults()[name].possible_on(deployment(kind)) for kind in KINDS)


@given(seed=st.integers())
def test_what_was_played_least_comes_first(seed: int) -> None:
    chooser = campaign(seed, "Redis: killed", "service: killed", alone=True)
    chooser._kept.results.faults["Redis: killed"] = Played(times=1, alone=1)
    order = [[fault.name for fault in link] for link in chooser.choose(deployment("redis"))]
    assert order == [["service: killed"], ["Redis: killed"]]


def test_a_deployment_is_of_use_while_what_was_played_least_can_be_played_on_it() -> None:
    chooser = campaign(1, "Redis: killed", "cluster: slot moved", alone=True)
    assert chooser.is_of_use(deployment("redis"))
    chooser._kept.results.faults["Redis: killed"] = Played(times=1, alone=1)
    assert not chooser.is_of_use(deployment("redis"))
    assert chooser.is_of_use(deployment(CLUSTER))


def test_what_was_measured_often_enough_is_not_played_alone_again() -> None:
    chooser = campaign(1, "Redis: killed", "service: killed", alone=True)
    chooser._kept.results.faults["Redis: killed"] = Played(times=MEASURED, alone=MEASURED)
    assert [[fault.name for fault in link] for link in chooser.choose(deployment("redis"))] == [["service: killed"]]
