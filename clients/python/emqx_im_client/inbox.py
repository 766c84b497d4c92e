"""Keeps order, repeats and the saved place, between what arrives and the program that reads it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emqx_im_client.events import (
    Edited,
    Event,
    Message,
    Recalled,
    Received,
    Recovered,
    Settled,
    StateChanged,
    Trouble,
    Truncated,
)
from emqx_im_client.kept import Kept
from emqx_im_client.pull import Page
from emqx_im_client.state import OutgoingMessage, Position, State

ROOM = 1000
"""Events that wait to be read. Above it pulling pauses, and live messages are left to a later pull."""

REMEMBERED = 4096
"""Messages by which repeats are recognised."""


@dataclass(frozen=True, slots=True)
class _Item:
    """event: None for the end of a page. position: where the device stands once this is dealt with.

    end: this was the last page of a pull; notice: the message that told of a change; reset: all states follow.
    """

    event: Event | None
    position: Position | None = None
    end: bool = False
    notice: Message | None = None
    reset: bool = False


class Inbox:
    """Events in the order in which they are to be read, each once.

    The saved position and memory move when the program has dealt with an event, never when it merely
    arrived: a crash repeats what was in its hands and loses nothing.
    """

    def __init__(self, uid: str, state: State) -> None:
        self.kept = Kept(uid, state)
        self.position = state.saved.position
        """How far the device has pulled; the saved position follows."""
        self.caught_up = asyncio.Event()
        """Set once everything of a first pull to the end is dealt with."""
        self.on_saved: Callable[[OSError | None], None] = lambda error: None
        """Called with why the state could not be kept, or with None if it is."""
        self._state = state
        self._items: deque[_Item] = deque()
        self._held: list[Received] | None = None
        self._in_hand: _Item | None = None
        self._claims = 0
        self._report: _Item | None = None
        self._in_trouble = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: Exception | None = None

    def hold(self) -> None:
        """Lets live messages wait until `release`, behind what is being pulled."""
        if self._held is None:
            self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for received in held:
            self._put(_Item(received))

    def offer(self, received: Received) -> bool:
        """Takes a live message. False: there is no room for it or for its memory, a pull is needed."""
        waiting = self._items if self._held is None else self._held
        if len(waiting) >= ROOM:
            return False
        if self._held is None:
            self._put(_Item(received))
        else:
            self._held.append(received)
        self._claims += 1
        return self._claims < REMEMBERED // 2

    async def take(self, page: Page) -> None:
        """Takes a pulled page, and waits until there is room for another."""
        if page.truncated:
            self._put(_Item(Truncated()))
        if page.reset:
            self._put(_Item(None, reset=True))
        # Before any message moves the place behind them.
        for state in page.states:
            self._put(_Item(StateChanged(state)))
        for message in page.messages:
            assert message.last_id is not None
            self.kept.pulled(message)
            position, change = Position(message.last_id, page.position.epoch), _change(message)
            event = change or Received(message, confirmed=True)
            self._put(_Item(event, position, notice=message if change else None))
        self._put(_Item(None, page.position, end=not page.more))
        self.position = page.position
        self._claims = 0
        while len(self._items) > ROOM:
            self._room.clear()
            await self._room.wait()

    def offer_state(self, state: dict[str, Any]) -> None:
        """Takes a state that came live. A pull will bring it, too."""
        if len(self._items) < ROOM:
            self._put(_Item(StateChanged(state)))

    def take_own(self, outgoing: OutgoingMessage, mid: int) -> None:
        """Notes that the service has carried out the user's own message."""
        self.kept.take_own(outgoing, mid)

    def pulled_up_to(self, time: float) -> None:
        """Notes that everything stored at that time of the event loop is in the inbox."""
        self.kept.pulled_up_to(time)

    def tell(self, settled: Settled) -> None:
        self._put(_Item(settled))

    def report(self, event: Trouble | Recovered) -> None:
        """Replaces a report that nobody has read yet: only one waits, however long nobody reads."""
        if self._report is not None:
            self._items.remove(self._report)
            self._report = None
        if isinstance(event, Trouble) or self._in_trouble:
            self._report = _Item(event)
            self._put(self._report)

    def fail(self, failure: Exception) -> None:
        """Ends the events; the reader gets the failure after the last one."""
        self._failure = failure
        self._arrived.set()

    async def next(self) -> Event:
        """Returns the next event; the one before it is dealt with. Raises what `fail` was given."""
        self.done()
        while True:
            item = await self._pop()
            if item.event is not None and not self._is_repeat(item):
                self._in_hand = item
                return item.event
            if item.reset:
                self.kept.forget_states()
                # What is restored comes again, and may be more than is remembered.
                self._state.saved.given = max(self._state.saved.given, self._state.saved.position.cursor)
            if item.position is not None:
                self._state.saved.position = item.position
                self._save()
            if item.end:
                self.caught_up.set()

    def done(self) -> None:
        """Notes that the event that was read last was dealt with."""
        item, self._in_hand = self._in_hand, None
        if item is None:
            return
        match item.event:
            case Received(message):
                self.remember(message, stored=message.mid is not None)
                self.kept.dealt_with(message)
            case Recalled() | Edited() as change if item.notice is not None:
                self.remember(item.notice, stored=True)
                self.kept.note(change, _changed_at(change, item.notice))
            case StateChanged(state):
                self.kept.keep(state)
        if item.position is not None:
            self._state.saved.position = item.position
        self._save()

    def _save(self) -> None:
        """Saves the state. If that fails, the next call saves it too; after a crash in between messages come again."""
        try:
            self._state.save()
        except OSError as error:
            self.on_saved(error)
        else:
            self.on_saved(None)

    def remember(self, message: Message, *, stored: bool) -> None:
        """Makes another copy of the message a repeat; for a live one only a copy with the same content."""
        if message.identity is None:
            return
        seen = self._state.saved.seen
        seen.pop(message.identity, None)
        seen[message.identity] = "" if stored else message.digest
        while len(seen) > REMEMBERED:
            del seen[next(iter(seen))]

    def _is_repeat(self, item: _Item) -> bool:
        """Returns whether it was seen: a pulled message still corrects a live one with the same identity that
        differs.
        """
        match item.event:
            case StateChanged(state):
                if self.kept.is_news(state) and not self.kept.is_own(state):
                    return False
                self.kept.keep(state)
                return True
            case Recalled() | Edited() as change if item.notice is not None:
                at = _changed_at(change, item.notice)
                if item.notice.identity not in self._state.saved.seen and self.kept.is_newer(change, at):
                    if not self.kept.is_own(change):
                        return False
                    self.kept.note(change, at)
                return True
            case Received(message) if message.identity is not None:
                said = self._state.saved.seen.get(message.identity)
            case _:
                return False
        if said is None:
            return message.mid is not None and message.mid <= self._state.saved.given
        if message.mid is None or said == "":
            return True
        self.remember(message, stored=True)
        if said != message.digest:
            return False
        self.kept.dealt_with(message)
        return True

    def _put(self, item: _Item) -> None:
        self._items.append(item)
        self._arrived.set()

    async def _pop(self) -> _Item:
        while not self._items:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        if item is self._report:
            self._report = None
            self._in_trouble = isinstance(item.event, Trouble)
        self._room.set()
        return item


def _change(message: Message) -> Recalled | Edited | None:
    """Returns what the service tells of another message; None for messages of their own."""
    if message.sender != "0" or message.type not in ("im.recalled", "im.edited"):
        return None
    match message.body:
        case {"mid": int(mid), **rest}:
            # To the sender's other devices it comes on their own topic.
            topic = str(rest.get("topic", message.topic))
            if message.type == "im.recalled":
                return Recalled(topic, mid, str(rest.get("by", "")))
            kind = rest.get("type")
            return Edited(topic, mid, kind if isinstance(kind, str) else None, rest.get("body"))
    return None


def _changed_at(change: Recalled | Edited, notice: Message) -> int:
    """Returns the change's id, which is the notice's own; but a copy on the sender's own topic has the next one."""
    return (notice.mid or 0) - int(change.topic != notice.topic)
