"""Between what arrives and the program that reads it: order, repeats, and the place that is saved."""

import asyncio
from collections import deque
from dataclasses import dataclass

from emqx_im_client.events import Event, Message, Received, Recovered, Settled, Trouble, Truncated
from emqx_im_client.pull import Page
from emqx_im_client.state import Position, State

ROOM = 1000
"""Events that wait to be read. Above it pulling pauses, and live messages are left to a later pull."""

REMEMBERED = 4096
"""Messages by which repeats are recognised."""


@dataclass(frozen=True, slots=True)
class _Item:
    """event: None for the end of a page. position: where the device stands once this is dealt with.

    end: this was the last page of a pull.
    """

    event: Event | None
    position: Position | None = None
    end: bool = False


class Inbox:
    """Events in the order in which they are to be read, each once.

    The saved position and memory move when the program has dealt with an event, never when it merely
    arrived: a crash repeats what was in its hands and loses nothing.
    """

    def __init__(self, state: State) -> None:
        self.position = state.saved.position
        """What is pulled up to here; the saved position follows it."""
        self.caught_up = asyncio.Event()
        """Set once everything of a first pull to the end is dealt with."""
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
        """From now on live messages wait until `release`, behind what is being pulled."""
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
        for message in page.messages:
            assert message.last_id is not None
            self._put(_Item(Received(message, confirmed=True), Position(message.last_id, page.position.epoch)))
        self._put(_Item(None, page.position, end=not page.more))
        self.position = page.position
        self._claims = 0
        while len(self._items) > ROOM:
            self._room.clear()
            await self._room.wait()

    def tell(self, settled: Settled) -> None:
        self._put(_Item(settled))

    def report(self, event: Trouble | Recovered) -> None:
        """Takes the place of a report that nobody has read yet: however long nobody reads, one waits."""
        if self._report is not None:
            self._items.remove(self._report)
            self._report = None
        if isinstance(event, Trouble) or self._in_trouble:
            self._report = _Item(event)
            self._put(self._report)

    def fail(self, failure: Exception) -> None:
        """Nothing more will come; who reads is told after the last event."""
        self._failure = failure
        self._arrived.set()

    async def next(self) -> Event:
        """The next event; the one before it is dealt with. Raises what `fail` was given."""
        self.done()
        while True:
            item = await self._pop()
            if item.event is not None and not self._is_repeat(item.event):
                self._in_hand = item
                return item.event
            if item.position is not None:
                self._state.saved.position = item.position
                self._state.save()
            if item.end:
                self.caught_up.set()

    def done(self) -> None:
        """The event that was read last is dealt with."""
        item, self._in_hand = self._in_hand, None
        if item is None:
            return
        if isinstance(item.event, Received):
            self.remember(item.event.message, stored=item.event.message.mid is not None)
        if item.position is not None:
            self._state.saved.position = item.position
        self._state.save()

    def remember(self, message: Message, *, stored: bool) -> None:
        """Another copy of the message is now a repeat; of one that came live, only one that says the same."""
        if message.identity is None:
            return
        seen = self._state.saved.seen
        seen.pop(message.identity, None)
        seen[message.identity] = "" if stored else message.digest
        while len(seen) > REMEMBERED:
            del seen[next(iter(seen))]

    def _is_repeat(self, event: Event) -> bool:
        """A live message repeats any with its identity; a pulled one corrects one that came live and said otherwise."""
        if not isinstance(event, Received) or event.message.identity is None:
            return False
        known = self._state.saved.seen.get(event.message.identity)
        if known is None:
            return False
        if event.message.mid is None or known == "":
            return True
        self.remember(event.message, stored=True)
        return known == event.message.digest

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
