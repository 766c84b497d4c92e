"""What is unread by the contract: messages of others that are above the user's read mark, and not taken back."""

from collections import Counter
from typing import Any

from hypothesis import strategies as st

OWN, OTHERS, GROUP = "1", ("2", "3"), "group/7"
CONVERSATIONS = (*(f"single/{uid}" for uid in OTHERS), GROUP)
EPOCH, KEY = "first", "key"


class Service:
    """What one user may see, and their states, of which only the newest of each is kept."""

    def __init__(self) -> None:
        self.clock = 0
        self.entries: list[dict[str, Any]] = []
        self.states: dict[str, dict[str, Any]] = {}

    def store(self, sender: str, conversation: str) -> None:
        """conversation: the user's own messages to it, others' as they come to the user."""
        own = f"single/{OWN}"
        self._add(sender, conversation if sender == OWN or conversation == GROUP else own, {"type": "text", "body": 1})

    def recall(self, number: int) -> None:
        """Takes back one of the messages: what pulls give of it from now on, and the notice of it."""
        said = [entry for entry in self.entries if entry["from"] != "0" and "recalled" not in entry]
        if not said:
            return
        entry = said[number % len(said)]
        del entry["payload"]
        entry["recalled"] = {"by": entry["from"], "at": self.clock + 1}
        # To the sender's other devices it comes on their own topic.
        topic = f"single/{OWN}" if entry["from"] == OWN else entry["topic"]
        body = {"topic": entry["topic"], "mid": entry["mid"], "by": entry["from"]}
        self._add("0", topic, {"type": "im.recalled", "body": body})

    def read(self, conversation: str, mid: int) -> None:
        """The highest mark stays."""
        mid = min(mid, self.clock)
        self.clock += 1
        if mid > self.states.get(conversation, {"mid": 0})["mid"]:
            self.states[conversation] = {"kind": "read", "topic": conversation, "mid": mid, "at": self.clock}

    def page(self, cursor: int, limit: int) -> dict[str, Any]:
        entries = [entry for entry in self.entries if entry["last_id"] > cursor]
        more = len(entries) > limit
        last = entries[limit - 1]["last_id"] if more else self.clock
        return {
            "messages": [dict(entry) for entry in entries[:limit]],
            "states": [state for state in self.states.values() if cursor < state["at"] <= last],
            **{"last_id": last, "more": more, "epoch": EPOCH, "key": KEY},
            **{"truncated": False, "reset": False, "writes_wait": False},
        }

    def unread(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for entry in self.entries:
            conversation = entry["topic"] if entry["topic"] == GROUP else f"single/{entry['from']}"
            mark = self.states.get(conversation, {"mid": 0})["mid"]
            counts[conversation] += entry["from"] not in (OWN, "0") and "recalled" not in entry and entry["mid"] > mark
        return dict(+counts)

    def _add(self, sender: str, topic: str, payload: dict[str, Any]) -> None:
        self.clock += 1
        place = {"last_id": self.clock, "mid": self.clock, "ts": self.clock, "qos": 1}
        client_id = f"m{self.clock}"
        self.entries.append({**place, "topic": topic, "from": sender, "id": client_id, "payload": payload})


class Phone:
    """A device that pulls a page now and then."""

    def __init__(self) -> None:
        self.cursor = 0
        self.pages: list[dict[str, Any]] = []

    def pull(self, service: Service, limit: int) -> None:
        self.pages.append(service.page(self.cursor, limit))
        self.cursor = self.pages[-1]["last_id"]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.sampled_from((OWN, *OTHERS)), st.sampled_from((0, 1))),
        st.tuples(st.just("recall"), st.just(""), st.integers(0, 20)),
        st.tuples(st.just("read"), st.sampled_from(CONVERSATIONS), st.integers(0, 30)),
        st.tuples(st.just("pull"), st.sampled_from(("early", "late")), st.integers(1, 4)),
    ),
    max_size=40,
)
"""What happens: to the service, and to two of the user's devices."""


def play(taken: list[tuple[str, str, int]]) -> tuple[dict[str, int], list[list[dict[str, Any]]]]:
    """Returns what is unread, and the pages that each of three devices has pulled: the last one is new."""
    service, phones = Service(), {"early": Phone(), "late": Phone(), "new": Phone()}
    for verb, name, number in taken:
        match verb:
            case "store":
                to = GROUP if number else f"single/{OTHERS[0] if name == OWN else name}"
                service.store(name, to)
            case "recall":
                service.recall(number)
            case "read":
                service.read(name, number)
            case _:
                phones[name].pull(service, number)
    for phone in phones.values():
        while phone.cursor < service.clock:
            phone.pull(service, 3)
    return service.unread(), [phone.pages for phone in phones.values()]
