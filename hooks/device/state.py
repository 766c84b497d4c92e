"""What a device must keep over a restart: its place, what it has seen, what is not answered yet."""

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import orjson

from hooks.device.errors import StateDamaged, StateInUse


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the user's sequence. cursor: microseconds, 0 for the window's start; epoch: of the store."""

    cursor: int = 0
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way. created: Unix seconds; payload: JSON, the same at every resend."""

    id: str
    topic: str
    payload: str
    created: float


@dataclass(slots=True)
class Saved:
    """seen: identity → digest of a message that is a mere claim, or "" for one that is known to be true."""

    position: Position = field(default_factory=Position)
    seen: dict[str, str] = field(default_factory=dict)
    unsent: dict[str, Outgoing] = field(default_factory=dict)


class State(Protocol):
    """Where a device keeps what it must not forget. `save` is called after every change."""

    saved: Saved

    def save(self) -> None: ...


class MemoryState:
    """Forgets everything with the process."""

    def __init__(self) -> None:
        self.saved = Saved()

    def save(self) -> None:
        """Nothing to do: the object itself is the memory."""


class FileState:
    """One JSON file, replaced as a whole; a process killed at any moment leaves the old content or the new.

    The file is forced to disk when a message to send is added: a power cut loses nothing that `send` took,
    and at worst the last few messages are shown again.
    """

    def __init__(self, path: Path) -> None:
        """Raises StateInUse while another process has the file, StateDamaged, OSError where it cannot be used."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise StateInUse(f"{path} is in use by another process") from error
        try:
            self.saved = _decode(path.read_bytes()) if path.exists() else Saved()
        except (ValueError, KeyError, TypeError) as error:
            self._lock.close()
            raise StateDamaged(f"{path} is damaged: move it away to start from the oldest message kept") from error
        self._on_disk = set(self.saved.unsent)

    def save(self) -> None:
        unsent = set(self.saved.unsent)
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(orjson.dumps(self.saved))
            if not unsent <= self._on_disk:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(self._path)
        self._on_disk = unsent

    def close(self) -> None:
        self._lock.close()


def _decode(content: bytes) -> Saved:
    fields = orjson.loads(content)
    return Saved(
        Position(**fields["position"]),
        fields["seen"],
        {id: Outgoing(**outgoing) for id, outgoing in fields["unsent"].items()},  # noqa: A001
    )
