"""Limits the memory of a process that answers to pulls may take. Most of it is for clients that do not read what
they asked for. A pull takes its place before anything is read for it: room for the largest page. Once the answer is
built it keeps what that takes, until the client has read it. While others build, a pull waits in line; where unread
answers leave no room it is refused, for nobody knows how long it would wait.
"""

import asyncio
from collections import deque

from hooks.errors import Problem
from store.timelines.pull import MAX_BYTES

PAGE_BYTES = 2 * MAX_BYTES
"""The memory of the largest page: itself, and once more in the buffer of its connection."""


class Room:
    """max_bytes: of all answers, at least PAGE_BYTES. max_of_user: answers of one user that are open at once."""

    def __init__(self, max_bytes: int, max_of_user: int) -> None:
        self._max_of_user = max_of_user
        self._free = max_bytes
        self._spare = max_bytes
        """Memory that unread answers leave: free but for the pages that are being built."""
        self._open: dict[int, int] = {}
        self._line: deque[asyncio.Future[None]] = deque()

    def place(self, uid: int) -> "Place":
        return Place(self, uid)

    async def take(self, uid: int) -> None:
        """Takes room for a page. Raises Problem `too_many_open`, `answers_unread`."""
        its = self._open.get(uid, 0)
        if its >= self._max_of_user:
            raise Problem("too_many_open")
        self._open[uid] = its + 1
        try:
            if self._spare < PAGE_BYTES:
                raise Problem("answers_unread")
            if self._line or self._free < PAGE_BYTES:
                await self._turn()
            else:
                self._free -= PAGE_BYTES
        except BaseException:
            self._leave(uid)
            raise

    def fill(self, size: int) -> None:
        """Notes that a page was built, and its answer takes `size` bytes."""
        self._spare -= size
        self._give(PAGE_BYTES - size)
        if self._spare < PAGE_BYTES:
            for waiting in self._line:
                if not waiting.done():
                    waiting.set_exception(Problem("answers_unread"))
            self._line.clear()

    def give_back(self, uid: int, taken: int, filled: int) -> None:
        """Gives room back. taken: room that is free again. filled: how much of it an answer had."""
        self._spare += filled
        self._give(taken)
        self._leave(uid)

    async def _turn(self) -> None:
        """Waits until the room was taken for this pull."""
        waiting = asyncio.get_running_loop().create_future()
        self._line.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._give(PAGE_BYTES)
            raise

    def _give(self, size: int) -> None:
        self._free += size
        while self._line and self._free >= PAGE_BYTES:
            waiting = self._line.popleft()
            if not waiting.done():
                self._free -= PAGE_BYTES
                waiting.set_result(None)

    def _leave(self, uid: int) -> None:
        self._open[uid] -= 1
        if not self._open[uid]:
            del self._open[uid]


class Place:
    """One pull's place in the room: taken, left, and taken again while it waits for news."""

    def __init__(self, room: Room, uid: int) -> None:
        self._room = room
        self._uid = uid
        self._taken = 0
        self._filled = 0

    async def take(self) -> None:
        """Raises Problem `too_many_open`, `answers_unread`."""
        await self._room.take(self._uid)
        self._taken = PAGE_BYTES

    def fill(self, length: int) -> None:
        """Notes the bytes of the answer, which are in the buffer of its connection, too."""
        if not self._taken:
            return
        self._taken = self._filled = 2 * length
        self._room.fill(self._filled)

    def leave(self) -> None:
        """Leaves the place, if it was taken."""
        if self._taken:
            self._room.give_back(self._uid, self._taken, self._filled)
            self._taken = self._filled = 0
