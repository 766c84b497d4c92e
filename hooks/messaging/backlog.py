"""Holds what a worker has read of the list of permissions and not done yet: by share and user, in fair turns.

Only a bounded part of a share's entries is held; the rest stays on the list and is read when there is room. So the
length of one share's part does not affect the others.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from store.operations.permissions import Ending, Entry


class _Subject(NamedTuple):
    """A unit of work: a user's losses, their gains, or the end of a group. number: uid, or gid."""

    kind: Literal["loses", "gains", "ends"]
    number: int


class Work(NamedTuple):
    """Everything of one share that waited for one subject."""

    share: str
    entries: Sequence[Entry]

    @property
    def subject(self) -> _Subject:
        return _subject(self.entries[0])


class _Share:
    """revoked, granted: entries by subject. left: the id of the first entry that stayed on the list."""

    def __init__(self) -> None:
        self.revoked: OrderedDict[_Subject, list[Entry]] = OrderedDict()
        self.granted: OrderedDict[_Subject, list[Entry]] = OrderedDict()
        self.waiting = 0
        self.working: set[_Subject] = set()
        self.paused = False
        self.left: bytes | None = None

    def put(self, entry: Entry) -> None:
        subject = _subject(entry)
        (self.granted if subject.kind == "gains" else self.revoked).setdefault(subject, []).append(entry)
        self.waiting += 1

    def take(self) -> list[Entry]:
        """Returns the entries of the next subject that is not being worked on; losses come first.  A loss never waits
        for the same user's gain, which a device that does not answer may hold up.
        """
        for queue in (self.revoked, self.granted):
            subject = next((each for each in queue if each not in self.working), None)
            if subject is not None:
                entries = queue.pop(subject)
                self.waiting -= len(entries)
                self.working.add(subject)
                return entries
        return []


class Backlog:
    """max_held: entries of one share. at_once: users, or dismissed groups, of one share that are worked on."""

    def __init__(self, *, max_held: int, at_once: int) -> None:
        self._max_held = max_held
        self._at_once = at_once
        self._shares: OrderedDict[str, _Share] = OrderedDict()
        self._held: set[bytes] = set()

    def __len__(self) -> int:
        """Counts the entries that are held, including those being worked on."""
        return len(self._held)

    def put(self, entries: Iterable[Entry]) -> None:
        """Takes the entries it has room for; an entry that is held already is skipped."""
        for entry in entries:
            share = self._shares.setdefault(entry.share, _Share())
            if entry.id in self._held:
                continue
            if share.left is not None or share.waiting >= self._max_held:
                share.left = entry.id if share.left is None else min(share.left, entry.id, key=_order)
                continue
            share.put(entry)
            self._held.add(entry.id)

    def take(self) -> Work | None:
        """Returns the work to do next, of the share that was served longest ago."""
        for name, share in self._shares.items():
            if not share.paused and len(share.working) < self._at_once and (entries := share.take()):
                self._shares.move_to_end(name)
                return Work(name, entries)
        return None

    def done(self, work: Work) -> None:
        """Notes that the entries of this work are off the list."""
        self._held.difference_update(entry.id for entry in work.entries)
        self._shares[work.share].working.discard(work.subject)
        self._forget(work.share)

    def failed(self, work: Work) -> bool:
        """Queues the work again; its share rests until `resume`. Returns whether that has to be called."""
        share = self._shares[work.share]
        share.working.discard(work.subject)
        for entry in work.entries:
            share.put(entry)
        paused, share.paused = share.paused, True
        return not paused

    def resume(self, name: str) -> None:
        if name in self._shares:
            self._shares[name].paused = False

    @property
    def complete(self) -> bool:
        """Returns whether it holds all that was put, and nothing stayed on the list."""
        return all(share.left is None for share in self._shares.values())

    def room(self) -> tuple[str, bytes] | None:
        """Returns a share that has room again, and the id above which the rest of it is on the list."""
        for name, share in self._shares.items():
            if share.left is not None and share.waiting <= self._max_held // 2:
                return name, _before(share.left)
        return None

    def put_left(self, name: str, entries: Sequence[Entry], go_on: bytes | None) -> None:
        """Takes entries that were read for a share with room; its other entries, if any, are above `go_on`."""
        self._shares[name].left = None
        self.put(entries)
        if (share := self._shares[name]).left is None and go_on is not None:
            share.left = _after(go_on)
        self._forget(name)

    def _forget(self, name: str) -> None:
        share = self._shares[name]
        if not share.waiting and not share.working and share.left is None:
            del self._shares[name]


def _subject(entry: Entry) -> _Subject:
    if isinstance(entry, Ending):
        return _Subject("ends", entry.gid)
    return _Subject("gains" if entry.granted else "loses", entry.uid)


def _numbers(id_: bytes) -> Iterator[int]:
    return map(int, id_.split(b"-"))


def _order(id_: bytes) -> tuple[int, ...]:
    return tuple(_numbers(id_))


def _before(id_: bytes) -> bytes:
    moment, number = _numbers(id_)
    return b"%d-%d" % ((moment, number - 1) if number else (moment - 1, 2**64 - 1))


def _after(id_: bytes) -> bytes:
    moment, number = _numbers(id_)
    return b"%d-%d" % (moment, number + 1)
