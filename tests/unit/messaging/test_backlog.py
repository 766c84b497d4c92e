"""Tests what a worker holds of the list of permissions, without a server."""

import itertools
from collections.abc import Iterable, Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hooks.messaging.backlog import Backlog, Work
from store.operations.permissions import Ending, Entry, Permission

_ids = itertools.count(1)


def entry(share: str, uid: int, topic: str = "group/7", *, granted: bool = False) -> Permission:
    return Permission(b"%d-0" % next(_ids), share, uid, topic, granted)


def backlog(max_held: int = 100, at_once: int = 100) -> Backlog:
    return Backlog(max_held=max_held, at_once=at_once)


def taken(held: Backlog) -> list[Work]:
    works: list[Work] = []
    while work := held.take():
        works.append(work)
    return works


def test_shares_have_their_turns_and_a_user_all_at_once() -> None:
    held = backlog()
    many = [entry("1", uid) for uid in (1, 2, 1, 3)]
    few = entry("9", 9)
    held.put([*many, few])
    assert taken(held) == [
        *(Work("1", [many[0], many[2]]), Work("9", [few])),
        *(Work("1", [many[1]]), Work("1", [many[3]])),
    ]


def test_losses_come_before_gains() -> None:
    held = backlog()
    won, lost, ended = entry("1", 1, granted=True), entry("1", 2), Ending(b"99-0", "1", 77)
    held.put([won, lost, ended])
    assert [work.entries for work in taken(held)] == [[lost], [ended], [won]]


def test_a_user_who_is_worked_on_waits_and_others_do_not() -> None:
    held = backlog()
    first, again, other = entry("1", 1), entry("1", 1), entry("1", 2)
    held.put([first])
    (work,) = taken(held)
    held.put([again, other])
    assert [each.entries for each in taken(held)] == [[other]]
    held.done(work)
    assert [each.entries for each in taken(held)] == [[again]]


def test_a_loss_does_not_wait_for_a_gain_that_is_worked_on() -> None:
    held = backlog()
    won, lost = entry("1", 1, granted=True), entry("1", 1)
    held.put([won])
    (work,) = taken(held)
    held.put([lost])
    assert [each.entries for each in taken(held)] == [[lost]]
    held.done(work)
    assert len(held) == 1


def test_so_many_of_a_share_are_worked_on() -> None:
    held = backlog(at_once=2)
    held.put(entry("1", uid) for uid in range(5))
    held.put([entry("2", 0)])
    works = taken(held)
    assert [work.share for work in works] == ["1", "2", "1"]
    held.done(works[0])
    assert len(taken(held)) == 1


def test_a_share_that_failed_pauses_alone() -> None:
    held = backlog()
    held.put([entry("1", 1), entry("1", 2), entry("2", 1)])
    one, _, _ = taken(held)
    assert held.failed(one)
    held.put([entry("1", 3), entry("2", 2)])
    assert [work.share for work in taken(held)] == ["2"]
    held.resume("1")
    assert {work.entries[0].id for work in taken(held)} >= {one.entries[0].id}


class _List:
    """The durable list, as a worker is given it."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = list(entries)

    def unfinished(self, after: bytes, limit: int) -> tuple[Sequence[Entry], bytes | None]:
        above = [each for each in self.entries if _number(each.id) > _number(after)][:limit]
        return above, above[-1].id if len(above) == limit else None


def _number(id_: bytes) -> tuple[int, int]:
    moment, number = id_.split(b"-")
    return int(moment), int(number)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), max_size=60),
    st.integers(1, 6),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_whatever_stays_on_the_list_is_done_once_there_is_room(
    changes: list[tuple[str, int]], max_held: int, page: int, order: Random
) -> None:
    entries = [
        Permission(b"5-%d" % number, share, uid, "group/7", False) for number, (share, uid) in enumerate(changes)
    ]
    listed, held = _List(entries), backlog(max_held, 2)
    held.put(entries)
    done: list[Entry] = []
    working: list[Work] = []
    while listed.entries:
        while work := held.take():
            working.append(work)
        if room := held.room():
            share, after = room
            held.put_left(share, *listed.unfinished(after, page))
        if working:
            work = working.pop(order.randrange(len(working)))
            listed.entries = [each for each in listed.entries if each not in work.entries]
            done += work.entries
            held.done(work)
    while room := held.room():
        held.put_left(room[0], *listed.unfinished(room[1], page))
    assert sorted(done) == sorted(entries)
    assert (len(held), held.take(), held.room()) == (0, None, None)


def test_what_is_held_is_not_held_twice() -> None:
    held = backlog()
    entries = [entry("1", 1), entry("2", 2)]
    held.put(entries)
    held.put(entries)
    assert len(held) == 2
    assert len(taken(held)) == 2
