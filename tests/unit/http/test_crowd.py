"""Tests which connection makes room for which when there are many strangers."""

import asyncio
import resource
from types import SimpleNamespace

import pytest

from hooks.http import crowd
from hooks.http.crowd import Crowd
from hooks.metrics import Metrics
from hooks.settings import TABLE


class Stranger:
    def __init__(self) -> None:
        self.ended = ""

    def make_room(self, reason: str) -> None:
        self.ended = reason


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    """Three, of whom anybody who is idle may have to go at once."""
    monkeypatch.setattr(crowd, "_SPEAK_SECONDS", 0.0)
    return Crowd(3, Metrics())


def enter(few: Crowd) -> Stranger | None:
    if not few.has_room():
        return None
    few.accepted()
    stranger = Stranger()
    few.on_connected(stranger)
    return stranger


def some(few: Crowd, count: int) -> list[Stranger]:
    entered = [enter(few) for _ in range(count)]
    assert all(entered)
    return [stranger for stranger in entered if stranger is not None]


def test_who_is_idle_longest_makes_room(few: Crowd) -> None:
    first, second, third = some(few, 3)
    few.busy(first)
    few.idle(first)
    few.busy(third)
    fourth, fifth = some(few, 2)
    assert [each.ended for each in (first, second, third, fourth, fifth)] == ["full", "full", "", "", ""]


async def room(few: Crowd) -> None:
    """Waits as new connections do."""
    called = asyncio.Event()
    few.call_when_room(called.set)
    async with asyncio.timeout(10):
        await called.wait()


async def test_where_all_are_busy_new_ones_wait(few: Crowd) -> None:
    strangers = some(few, 3)
    for stranger in strangers:
        few.busy(stranger)
    for happens in (few.idle, few.gone):
        assert enter(few) is None
        waiting = asyncio.create_task(room(few))
        await asyncio.sleep(0)
        assert not few.has_room()
        happens(strangers[0])
        await waiting
        assert few.has_room()
        few.busy(strangers[0])
    assert enter(few) is not None


async def test_who_has_only_just_come_may_speak(few: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(crowd, "time", SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr(crowd, "_SPEAK_SECONDS", 0.01)
    first, second, third = some(few, 3)
    assert not few.has_room()
    waiting = asyncio.create_task(room(few))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    few.busy(first)
    few.idle(first)
    clock += 0.011
    await waiting
    (fourth,) = some(few, 1)
    assert [each.ended for each in (first, second, third, fourth)] == ["", "full", "", ""]


async def test_those_who_are_about_to_come_count(few: Crowd) -> None:
    for _ in range(3):
        assert few.has_room()
        few.accepted()
    assert not few.has_room()
    waiting = asyncio.create_task(room(few))
    await asyncio.sleep(0)
    few.on_connected(Stranger())
    await waiting  # the one that has come is idle
    assert few.has_room()
    few.busy(next(iter(few._idle)))
    assert not few.has_room()
    few.failed()
    assert few.has_room()


def test_nobody_goes_before_somebody_comes(few: Crowd) -> None:
    strangers = some(few, 3)
    assert few.has_room()
    assert [each.ended for each in strangers] == ["", "", ""]


def test_another_who_looks_after_a_connection_takes_its_place(few: Crowd) -> None:
    strangers = some(few, 3)
    other = Stranger()
    few.replace(strangers[0], other)
    few.on_connected(other)
    few.gone(strangers[0])
    assert enter(few) is not None
    assert strangers[1].ended == "full", "who was replaced came anew"
    assert other.ended == ""


def test_who_is_no_stranger_does_not_count(few: Crowd) -> None:
    strangers = some(few, 3)
    few.gone(strangers[1])
    few.gone(strangers[1])
    some(few, 1)
    few.began(strangers[1], 2**40)
    few.idle(strangers[1])
    assert [each.ended for each in strangers] == ["", "", ""]


def test_the_oldest_head_goes(few: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "_MAX_HEAD_BYTES", 100)
    first, second, third = some(few, 3)
    few.began(first, 40)
    few.began(second, 10)
    few.began(second, 40)
    few.began(third, 20)
    assert [each.ended for each in (first, second, third)] == ["", "", ""]
    few.began(third, 21)
    assert [each.ended for each in (first, second, third)] == ["heads_full", "", ""]
    few.busy(second)
    few.began(third, 100)
    assert third.ended == ""


def test_more_than_the_files_allow_is_not_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 4096))
    assert Crowd(10_000, Metrics())._max_connections == 768
    assert Crowd(50, Metrics())._max_connections == 50
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert Crowd(10**9, Metrics())._max_connections == 2**20 * 3 // 4


def test_many_files_alone_do_not_let_connections_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = TABLE["public_connections"].default
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**20, 2**20))
    assert Crowd(usual, Metrics())._max_connections == 20_000
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 2**20))
    assert Crowd(usual, Metrics())._max_connections == 768
