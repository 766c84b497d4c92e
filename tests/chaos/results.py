"""Keeps what all rounds of all sessions have found so far in one file beside the page, so that sessions add up."""

import fcntl
import json
import os
from collections import Counter
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos.rounds import Episode, Outcome

MEASURES = ("first_204", "first_pull", "full_speed", "silent")


def _plain(value: Any) -> Any:
    """Returns what JSON can say of a value; `asdict` does not understand counters."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


@dataclass
class Played:
    """The results of one fault. Two that were played at once each count.

    alone: plays whose times were measured, as neither another fault nor another session was beside them.
    """

    times: int = 0
    alone: int = 0
    acknowledged: int = 0
    lost_with_disk: int = 0
    stored_again: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    measured: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURES})


@dataclass
class Session:
    """One run of the command."""

    seed: str
    began: str
    machine: str
    commit: str
    rounds: int = 0
    seconds: float = 0.0
    acknowledged: int = 0


@dataclass
class Results:
    """rounds_broken: a line for each round in which something was broken, with what replays it."""

    acknowledged: int = 0
    given: int = 0
    pages: int = 0
    rounds: int = 0
    lost_with_disk: int = 0
    stored_again: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    faults: dict[str, Played] = field(default_factory=dict)
    pairs: int = 0
    workloads: Counter[str] = field(default_factory=Counter)
    sessions: list[Session] = field(default_factory=list)
    rounds_broken: list[str] = field(default_factory=list)
    not_possible: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Results":
        if not file.exists():
            return cls()
        kept = json.loads(file.read_text())
        for name in ("broken", "workloads"):
            kept[name] = Counter(kept[name])
        kept["sessions"] = [Session(**each) for each in kept["sessions"]]
        kept["faults"] = {
            name: Played(**{**each, "broken": Counter(each["broken"]), "statuses": Counter(each["statuses"])})
            for name, each in kept["faults"].items()
        }
        return cls(**kept)

    def write(self, file: Path) -> None:
        """Replaces the file in one step: a session may be ended at any moment."""
        new = file.with_suffix(".new")
        new.write_text(json.dumps(_plain(self), indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        new.rename(file)

    def of(self, fault: str) -> Played:
        return self.faults.get(fault, Played())

    def add(self, session: Session, name: str, outcome: Outcome, *, measured: bool) -> None:
        """measured: whether nothing ran beside it that spoils times."""
        self._add_session(session, outcome)
        self.rounds += 1
        for total in ("acknowledged", "given", "pages", "lost_with_disk", "stored_again"):
            setattr(self, total, getattr(self, total) + getattr(outcome, total))
        self.broken.update(outcome.broken)
        self.workloads.update(outcome.workloads)
        for episode in outcome.episodes:
            self.pairs += len(episode.faults) > 1
            for fault in episode.faults:
                self._add_play(fault, episode, measured=measured and len(episode.faults) == 1)
        for fault in set(outcome.faults):
            played = self.faults[fault]
            played.lost_with_disk += outcome.lost_with_disk
            played.stored_again += outcome.stored_again
            played.broken.update(outcome.broken)
        if outcome.broken:
            told = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.broken.items()))
            faults = ", ".join(" and ".join(each.faults) for each in outcome.episodes)
            self.rounds_broken.append(f"{session.began}, seed {session.seed}, round {name}, {faults}: {told}")

    def _add_session(self, session: Session, outcome: Outcome) -> None:
        known = next((each for each in self.sessions if (each.seed, each.began) == (session.seed, session.began)), None)
        if known is None:
            known = replace(session)
            self.sessions.append(known)
        known.rounds += 1
        known.seconds = round(known.seconds + outcome.seconds, 1)
        known.acknowledged += outcome.acknowledged

    def _add_play(self, fault: str, episode: Episode, *, measured: bool) -> None:
        played = self.faults.setdefault(fault, Played())
        played.times += 1
        played.acknowledged += episode.acknowledged
        played.statuses.update(episode.statuses)
        if measured:
            played.alone += 1
            for measure in MEASURES:
                value = getattr(episode, measure)
                if value is not None:
                    played.measured[measure].append(round(value, 2))


class Kept:
    """Where results are kept, and where several sessions add to them at the same time. file: None: only in memory."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.results = self._read()

    def add(self, session: Session, name: str, outcome: Outcome, *, measured: bool, not_possible: list[str]) -> None:
        """Adds a round to what the others have added meanwhile."""
        if self._file is None:
            self.results.add(session, name, outcome, measured=measured)
            return
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self.results = self._read()
            self.results.add(session, name, outcome, measured=measured)
            self.results.not_possible = not_possible
            self.results.write(self._file)
        finally:
            os.close(folder)

    def _read(self) -> Results:
        return Results() if self._file is None else Results.read(self._file)
