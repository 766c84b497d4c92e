"""Judges what an operator's back end was told of a round, by what docs/operators/events.md promises."""

from collections.abc import Iterable
from typing import Any

from tests.chaos.history import NEVER, History

Event = dict[str, Any]


class Told:
    """events: in the order in which the back end took them, also of other rounds, and twice where they came twice."""

    def __init__(self, history: History, events: Iterable[Event]) -> None:
        self._history = history
        self._sent = {sent.content: sent for sent in history.sent.values()}
        self._mids: dict[str, int] = {}
        """By content, which no two messages have in common."""
        self._changed: set[tuple[str, str, int]] = set()
        self.wrong: list[str] = []
        """What came, and should not have come, or not in this order."""
        newest: dict[str, int] = {}
        known: set[str] = set()
        for event in events:
            if event["id"] in known:
                continue
            known.add(event["id"])
            match event["type"]:
                case "message.stored":
                    self._store(event, newest)
                case kind:
                    self._changed.add((kind, event["topic"], event["mid"]))

    def _store(self, event: Event, newest: dict[str, int]) -> None:
        content, topic, mid = event["payload"]["body"]["t"], event["topic"], event["mid"]
        sent = self._sent.get(content)
        if sent is None:
            return
        if (topic, event["from"]) != sent.message[:2] or sent.refused:
            self.wrong.append(f"{event} for {sent.message}")
        if mid <= newest.get(topic, 0):
            self.wrong.append(f"{mid} of {topic} came after {newest[topic]}")
        newest[topic] = max(mid, newest.get(topic, 0))
        if self._mids.setdefault(content, mid) != mid and not self._history.forgot:
            self.wrong.append(f"{sent.message} came as {self._mids[content]} and as {mid}")

    def missing(self) -> list[str]:
        """Returns what was acknowledged and did not come; nothing where the store lost what waited."""
        if self._history.forgot:
            return []
        stored = [
            f"message.stored of {sent.message}"
            for sent in self._history.sent.values()
            if sent.acknowledged < NEVER and sent.content not in self._mids
        ]
        changed = []
        for change in self._history.changes:
            kind = "message.recalled" if change.content is None else "message.edited"
            mid = self._mids.get(self._history.sent[change.message].content)
            if change.acknowledged < NEVER and (kind, change.message.topic, mid) not in self._changed:
                changed.append(f"{kind} of {change.message}")
        return stored + changed
