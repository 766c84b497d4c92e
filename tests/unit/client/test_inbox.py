import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from emqx_im_client.errors import Unauthorized
from emqx_im_client.events import Edited, Event, Message, Received, Truncated, live
from emqx_im_client.inbox import REMEMBERED, ROOM, Inbox
from emqx_im_client.outbox import Outbox
from emqx_im_client.pull import Page
from emqx_im_client.state import MemoryState, Position


def stored(number: int, text: str = "hi", sender: str = "1001") -> Message:
    payload = {"id": f"m{number}", "from": sender, "body": text}
    return Message("single/1002", sender, f"m{number}", 1, payload, number, number, number)


def claimed(number: int, text: str = "hi", sender: str = "1001") -> Received:
    payload = f'{{"body": "{text}", "from": "{sender}", "id": "m{number}"}}'
    return Received(live("single/1002", payload.encode(), 1), confirmed=False)


def notice(kind: str, number: int, **body: Any) -> Message:
    payload = {"id": f"im.{number}", "from": "0", "type": kind, "body": body}
    return Message("single/1001", "0", f"im.{number}", 1, payload, number, number, number)


def page(
    *messages: Message,
    states: Sequence[dict[str, Any]] = (),
    end: int = 0,
    epoch: str = "e",
    more: bool = False,
    truncated: bool = False,
    reset: bool = False,
) -> Page:
    last = messages[-1].last_id if messages else None
    position = Position(end or last or 0, epoch)
    return Page(list(messages), list(states), position, more, truncated, reset=reset, key="secret", writes_wait=False)


async def waiting(inbox: Inbox) -> list[Event]:
    """Returns everything that can be read now, dealt with."""
    events = []
    try:
        while True:
            events.append(await asyncio.wait_for(inbox.next(), 0.02))
    except TimeoutError:
        return events


def ids(events: list[Event]) -> list[str | None]:
    return [event.message.id for event in events if isinstance(event, Received)]


async def test_a_live_message_is_a_claim_and_comes_once() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.offer(claimed(1))
    inbox.offer(claimed(1))
    await inbox.take(page(stored(1)))
    events = await waiting(inbox)
    assert ids(events) == ["m1"]
    assert isinstance(events[0], Received)
    assert not events[0].confirmed


async def test_a_pulled_message_is_not_repeated_by_its_live_copy() -> None:
    inbox = Inbox("1002", MemoryState())
    await inbox.take(page(stored(1)))
    inbox.offer(claimed(1))
    events = await waiting(inbox)
    assert events == [Received(stored(1), confirmed=True)]


async def test_a_forged_claim_does_not_hide_the_message_it_imitates() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.offer(claimed(1, "forged"))
    await inbox.take(page(stored(1, "true")))
    inbox.offer(claimed(1, "forged again"))
    first, second = await waiting(inbox)
    assert isinstance(first, Received)
    assert first.message.body == "forged"
    assert second == Received(stored(1, "true"), confirmed=True)


async def test_messages_that_cannot_be_recognised_are_never_dropped() -> None:
    inbox = Inbox("1002", MemoryState())
    for _ in range(2):
        inbox.offer(Received(live("single/1002", b"\x00\xff", 1), confirmed=False))
        inbox.offer(Received(live("single/1002", b'{"id": "x"}', 1), confirmed=False))
    assert len(await waiting(inbox)) == 4


async def test_the_same_id_of_another_sender_or_topic_is_another_message() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.offer(claimed(1))
    inbox.offer(claimed(1, sender="1003"))
    inbox.offer(Received(live("group/7", b'{"id": "m1", "from": "1001", "body": "hi"}', 1), confirmed=False))
    assert len(await waiting(inbox)) == 3


async def test_live_messages_wait_behind_what_is_being_pulled() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.hold()
    inbox.offer(claimed(3))
    await inbox.take(page(stored(1), stored(2), more=True))
    inbox.hold()
    inbox.offer(claimed(4))
    await inbox.take(page(stored(3)))
    inbox.release()
    assert ids(await waiting(inbox)) == ["m1", "m2", "m3", "m4"]


async def test_the_saved_position_follows_the_reader_not_the_pull() -> None:
    state = MemoryState()
    inbox = Inbox("1002", state)
    await inbox.take(page(stored(1), stored(2), end=9))
    assert inbox.position == Position(9, "e")
    assert state.saved.position == Position(0, "")
    await inbox.next()
    assert state.saved.position == Position(0, "")
    await inbox.next()
    assert state.saved.position == Position(1, "e")
    assert await waiting(inbox) == []
    assert state.saved.position == Position(9, "e")


async def test_a_restart_repeats_only_what_was_in_hand() -> None:
    state = MemoryState()
    inbox = Inbox("1002", state)
    inbox.offer(claimed(1))
    inbox.offer(claimed(2))
    await inbox.next()
    await inbox.next()
    after_restart = Inbox("1002", state)
    await after_restart.take(page(stored(1), stored(2)))
    assert ids(await waiting(after_restart)) == ["m2"]


async def test_another_epoch_starts_over_and_shows_nothing_again() -> None:
    state = MemoryState()
    inbox = Inbox("1002", state)
    await inbox.take(page(stored(1), stored(2)))
    await waiting(inbox)
    await inbox.take(page(stored(1), stored(2), Message("single/1002", "1001", "m3", 1, {}, 3, 3, 3), epoch="f"))
    assert ids(await waiting(inbox)) == ["m3"]
    assert state.saved.position == Position(3, "f")


async def test_more_than_is_remembered_is_not_shown_again_either() -> None:
    """A restored store gives the whole window again, and a restart may come before its end."""
    state, count = MemoryState(), REMEMBERED + 100
    inbox = Inbox("1002", state)
    for first in range(1, count, 500):
        await inbox.take(page(*map(stored, range(first, min(first + 500, count)))))
        await waiting(inbox)
    await inbox.take(page(*map(stored, range(1, 500)), epoch="f", more=True, reset=True))
    assert ids(await waiting(inbox)) == []
    inbox = Inbox("1002", state)
    await inbox.take(page(*map(stored, range(500, 700)), stored(count), epoch="f"))
    assert ids(await waiting(inbox)) == [f"m{count}"]


async def test_a_gap_is_told() -> None:
    inbox = Inbox("1002", MemoryState())
    await inbox.take(page(stored(1), truncated=True))
    assert await waiting(inbox) == [Truncated(), Received(stored(1), confirmed=True)]


async def test_a_reader_who_sleeps_stops_the_pull_and_leaves_live_messages_to_it() -> None:
    inbox = Inbox("1002", MemoryState())
    taking = asyncio.create_task(inbox.take(page(*(stored(number) for number in range(1, ROOM + 50)))))
    await asyncio.sleep(0)
    assert not taking.done()
    assert not inbox.offer(claimed(5000))
    for _ in range(50):
        await inbox.next()
    await asyncio.wait_for(taking, 20)


async def test_many_claims_ask_for_a_pull_before_they_are_forgotten() -> None:
    inbox = Inbox("1002", MemoryState())
    room = True
    number = 0
    while room:
        number += 1
        assert number < 4096
        room = inbox.offer(claimed(number))
        await inbox.next()
    await inbox.take(page(stored(1)))
    assert inbox.offer(claimed(number + 1))


async def test_a_failure_comes_after_the_last_event() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.offer(claimed(1))
    inbox.fail(Unauthorized("token expired"))
    assert isinstance(await inbox.next(), Received)
    with pytest.raises(Unauthorized, match="token expired"):
        await inbox.next()


def test_deep_or_broken_json_is_opaque() -> None:
    for payload in (b"[1]", b"{", b'{"a": NaN}', b'{"a":' * 400 + b"1" + b"}" * 400):
        assert live("single/1002", payload, 1).payload == payload


def trusted(number: int, text: str = "hi", qos: int = 1) -> Received:
    """Returns a live message whose sender the broker vouches for."""
    payload = {"id": f"m{number}", "from": "1001", "body": text}
    return Received(Message("single/1002", "1001", f"m{number}", qos, payload, number), confirmed=True)


async def test_a_live_message_of_trusted_sending_comes_once() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.offer(trusted(1))
    inbox.offer(trusted(1))
    await inbox.take(page(stored(1)))
    assert await waiting(inbox) == [trusted(1)]


async def test_what_its_sender_said_otherwise_with_qos_0_does_not_hide_what_is_stored() -> None:
    inbox = Inbox("1002", MemoryState())
    inbox.offer(trusted(1, "to some", qos=0))
    assert await waiting(inbox) == [trusted(1, "to some", qos=0)]
    await inbox.take(page(stored(1, "to all")))
    assert await waiting(inbox) == [Received(stored(1, "to all"), confirmed=True)]


@pytest.mark.parametrize("pulled_first", [True, False])
async def test_what_the_device_changed_itself_is_not_told_to_it_even_if_a_pull_is_faster_than_the_answer(
    *, pulled_first: bool
) -> None:
    state = MemoryState()
    inbox, outbox = Inbox("1001", state), Outbox(1001, state, 60, lambda settled: None)
    outbox.on_stored = inbox.take_own
    changes: dict[str, dict[str, Any]] = {
        "edit": {"mid": 7, "type": "text", "body": "better"},
        "recall": {"mid": 8},
        "read": {"mid": 9},
        "block": {},
    }
    commands = [outbox.compose(f"single/1002/{verb}", fields) for verb, fields in changes.items()]
    commands += [outbox.compose("single/1001/set", {"key": "pin", "value": [1]})]
    # One that the service will refuse has nothing to say here.
    commands += [outbox.compose("single/1002/edit", {"body": "of which message?"})]
    for command in commands:
        outbox.add(command)
    notices = [
        notice("im.edited", 11, topic="single/1002", **changes["edit"]),
        notice("im.recalled", 12, topic="single/1002", mid=8, by="1001"),
    ]
    states = [
        {"kind": "read", "topic": "single/1002", "mid": 9, "at": 13},
        {"kind": "block", "uid": "1002", "on": True, "at": 14},
        {"kind": "setting", "key": "pin", "value": [1], "at": 15},
    ]

    def answer() -> None:
        # A change has the id before that of the notice on the sender's own topic.
        for at, command in enumerate(commands[:-1], 10):
            outbox.acknowledged({"id": command.id, "mid": at})

    if not pulled_first:
        answer()
    await inbox.take(page(*notices, states=states, end=15))
    assert await waiting(inbox) == []
    if pulled_first:
        answer()
    await inbox.take(page(*notices, states=states, end=15))
    assert await waiting(inbox) == []
    assert [{**each, "at": 0} for each in inbox.kept.states()] == [{**each, "at": 0} for each in states]


async def test_what_another_device_of_the_user_changed_is_told() -> None:
    state = MemoryState()
    inbox, outbox = Inbox("1001", state), Outbox(1001, state, 60, lambda settled: None)
    outbox.add(outbox.compose("single/1002/edit", {"mid": 7, "type": "text", "body": "better"}))
    other = {"mid": 7, "type": "text", "body": "best"}
    await inbox.take(page(notice("im.edited", 11, topic="single/1002", **other)))
    assert await waiting(inbox) == [Edited("single/1002", 7, "text", "best")]
