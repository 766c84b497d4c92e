"""Tests that what is unread follows from messages and read marks, whatever a device pulled, and when."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from emqx_im_client.events import Message
from emqx_im_client.kept import Kept
from emqx_im_client.state import MemoryState

OWN, OTHERS = "1", ("2", "3")


class Service:
    """Messages to one user, and their read marks, of which only the newest of each conversation is kept."""

    def __init__(self) -> None:
        self.clock = 0
        self.messages: list[Message] = []
        self.marks: dict[str, dict[str, Any]] = {}

    def store(self, sender: str) -> None:
        self.clock += 1
        topic = f"single/{OWN}" if sender != OWN else f"single/{OTHERS[0]}"
        self.messages.append(message(self.clock, sender, topic))

    def read(self, conversation: str, mid: int) -> None:
        self.clock += 1
        if mid > self.marks.get(conversation, {"mid": 0})["mid"]:
            self.marks[conversation] = {"kind": "read", "topic": conversation, "mid": mid, "at": self.clock}

    def unread(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for each in self.messages:
            conversation = each.conversation(OWN)
            assert each.mid is not None
            if each.sender != OWN and each.mid > self.marks.get(conversation, {"mid": 0})["mid"]:
                counts[conversation] += 1
        return dict(counts)


class Phone:
    """A device that pulls a page now and then."""

    def __init__(self) -> None:
        self.kept = Kept(OWN, MemoryState())
        self.cursor = 0

    def pull(self, service: Service, limit: int, *, states_first: bool) -> None:
        messages = [each for each in service.messages if (each.mid or 0) > self.cursor][:limit]
        last = messages[-1].mid if len(messages) == limit else service.clock
        assert last is not None
        states = [each for each in service.marks.values() if self.cursor < each["at"] <= last]
        for each in messages:
            self.kept.pulled(each)
        if states_first:
            self._take(states)
        for each in messages:
            self.kept.dealt_with(each)
        if not states_first:
            self._take(states)
        self.cursor = last

    def _take(self, states: Sequence[dict[str, Any]]) -> None:
        for state in states:
            self.kept.keep(state)


def message(mid: int, sender: str, topic: str) -> Message:
    return Message(sender=sender, id=f"m{mid}", topic=topic, payload={}, mid=mid, ts=None, qos=1)


senders = st.sampled_from((OWN, *OTHERS))
steps = st.one_of(
    st.tuples(st.just("store"), senders, st.just(0)),
    st.tuples(st.just("read"), st.sampled_from(OTHERS), st.integers(0, 20)),
    st.tuples(st.just("pull"), st.sampled_from(("early", "late")), st.integers(1, 4)),
)


@given(st.lists(steps, max_size=40), st.booleans())
def test_all_devices_come_to_what_messages_and_marks_say(taken: list[tuple[str, str, int]], states_first: bool) -> None:
    service, phones = Service(), {"early": Phone(), "late": Phone(), "new": Phone()}
    for verb, name, number in taken:
        match verb:
            case "store":
                service.store(name)
            case "read":
                service.read(f"single/{name}", min(number, service.clock))
            case _:
                phones[name].pull(service, number, states_first=states_first)
    for phone in phones.values():
        while phone.cursor < service.clock:
            phone.pull(service, 3, states_first=states_first)
        assert phone.kept.unread() == service.unread()
