"""What a back end was told is compared with what was sent, and what is planted in it is found."""

from typing import Any

import pytest

from tests.chaos.history import Change, History, Loss, Message, Sent
from tests.chaos.told import Event, Told

MESSAGES = [Message("single/2", "1", "a"), Message("group/9", "2", "b"), Message("single/2", "1", "c")]
FIRST, SECOND, THIRD = MESSAGES


def lived() -> History:
    history = History()
    for number, message in enumerate(MESSAGES):
        begun = float(number)
        history.sent[message] = Sent(message, "s", number, f"r1 {number}", begun, begun + 0.5)
    history.changes = [Change(FIRST, "new", 10.0, 11.0), Change(SECOND, None, 10.0, 11.0)]
    return history


def stored(number: int, **changed: Any) -> Event:
    topic, sender, _ = MESSAGES[number]
    event = {"id": f"e{number}", "type": "message.stored", "topic": topic, "from": sender, "mid": 100 + number}
    return event | {"payload": {"body": {"t": f"r1 {number}"}}} | changed


CHANGED: list[Event] = [
    {"id": "e4", "type": "message.edited", "topic": FIRST.topic, "mid": 100, "by": "1"},
    {"id": "e5", "type": "message.recalled", "topic": SECOND.topic, "mid": 101, "by": "2"},
]
HONEST: list[Event] = [*map(stored, range(3)), *CHANGED]


def test_nothing_is_wrong_where_all_came_in_order_and_some_of_it_twice() -> None:
    told = Told(lived(), [*HONEST[:2], *HONEST[1:], stored(0, id="x", payload={"body": {"t": "r0 0"}}, mid=1)])
    assert (told.missing(), told.wrong) == ([], [])


@pytest.mark.parametrize("number", range(len(HONEST)))
def test_what_did_not_come_is_missing(number: int) -> None:
    told = Told(lived(), [event for place, event in enumerate(HONEST) if place != number])
    assert told.missing()


def test_what_was_never_acknowledged_may_be_missing() -> None:
    history = lived()
    history.sent[THIRD].acknowledged = float("inf")
    assert Told(history, [*HONEST[:2], *CHANGED]).missing() == []


def test_what_a_store_lost_may_be_missing_and_come_twice() -> None:
    history = lived()
    history.losses.append(Loss(1.0, 2.0))
    told = Told(history, [stored(0), stored(0, id="again", mid=200)])
    assert (told.missing(), told.wrong) == ([], [])


@pytest.mark.parametrize(
    "wrong",
    [
        stored(0, id="again", mid=200),
        stored(2, id="late", mid=99),
        stored(1, id="other", topic="group/8"),
        stored(1, id="other", **{"from": "3"}),
    ],
    ids=["twice", "out of order", "another topic", "another sender"],
)
def test_what_is_planted_is_found(wrong: Event) -> None:
    assert Told(lived(), [*HONEST, wrong]).wrong


def test_what_was_refused_must_not_come() -> None:
    history = lived()
    history.sent[THIRD].refused = True
    assert Told(history, HONEST).wrong
