"""Keeps what a device must remember over a restart: its id, its place, what it has seen, what is not answered yet."""

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import orjson

from emqx_im_client.errors import StateDamaged, StateInUse


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the user's sequence. cursor: microseconds, 0 for the window's start; epoch: of the store."""

    cursor: int = 0
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message on its way. created: Unix seconds; payload: JSON, the same at every resend."""

    id: str
    topic: str
    payload: str
    created: float


def new_device_id() -> str:
    """Makes an id that no other device has, of 16 letters and digits: MQTT 3.1 allows 23."""
    return uuid4().hex[:16]


@dataclass(slots=True)
class Saved:
    """device: names this device among all of the user's; seen: identity → digest of a message that is a mere claim, or
    "" for one that is known to be true; states: read marks, settings and blocks, the newest of each; unread: the `mid`s
    of others' messages above the read mark, for each conversation; changed: the newest change of messages, by topic and
    `mid`; given: the place of the device when the store was restored last: it has all messages with a `mid` up to it.
    """

    device: str = field(default_factory=new_device_id)
    position: Position = field(default_factory=Position)
    seen: dict[str, str] = field(default_factory=dict)
    unsent: dict[str, OutgoingMessage] = field(default_factory=dict)
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    unread: dict[str, list[int]] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    given: int = 0


class State(Protocol):
    """Keeps what a device must not forget. `save` is called after every change."""

    saved: Saved

    def save(self) -> None: ...


class MemoryState:
    """Forgets everything with the process."""

    def __init__(self) -> None:
        self.saved = Saved()

    def save(self) -> None:
        """Does nothing: the object itself is the memory."""


class FileState:
    """One JSON file, replaced as a whole; a process killed at any moment leaves the old content or the new.

    It holds messages, so only its owner may read it, and it is never reached through a symbolic link. The file is
    forced to disk when a message to send is added: a power cut loses nothing that `send` took, and at worst the last
    few messages are shown again.
    """

    def __init__(self, path: Path) -> None:
        """Raises StateInUse while another process has the file, StateDamaged, OSError where it cannot be used."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._take_lock()
            self.saved = self._read()
        except BaseException:
            self.close()
            raise
        self._on_disk = set(self.saved.unsent)
        # At once, so that the device keeps its id after a crash, and a full or read-only disk is noticed now.
        self.save()

    def save(self) -> None:
        """Raises OSError; what could not be written is written by the next call."""
        unsent = set(self.saved.unsent)
        temporary = self._path.with_suffix(".new")
        # A new file each time: an existing one may be a link, or readable by others.
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        durable = not unsent <= self._on_disk
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(self.saved))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(self._path)
        if durable:
            _sync_directory(self._path.parent)
        self._on_disk = unsent

    def close(self) -> None:
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateInUse(f"{self._path} is in use by another process") from error

    def _read(self) -> Saved:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return Saved()
        with os.fdopen(handle, "rb") as file:
            content = file.read()
        try:
            return _decode(content)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{self._path} is damaged: move it away to start from the oldest message kept"
            raise StateDamaged(reason) from error


def _sync_directory(path: Path) -> None:
    """Forces the new file's name to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _decode(content: bytes) -> Saved:
    fields = orjson.loads(content)
    return Saved(
        fields.get("device") or new_device_id(),  # files of before devices had ids have none
        Position(**fields["position"]),
        fields["seen"],
        {id: OutgoingMessage(**outgoing) for id, outgoing in fields["unsent"].items()},  # noqa: A001
        # Files of before there were states have none of these.
        fields.get("states", {}),
        fields.get("unread", {}),
        fields.get("changed", {}),
        fields.get("given", 0),
    )
