"""Serves work that waits for something scarce in turns of shares, so that one long share does not delay the others.
A share is named after the cause of the work.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Shares(Generic[Item]):
    """A queue for each share; they are served in turn."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()

    def put(self, share: str, item: Item) -> None:
        self._queues.setdefault(share, deque()).append(item)

    def take(self, may: Callable[[str], bool] = lambda share: True) -> tuple[str, Item] | None:
        """Returns the first item of the share whose turn it is, among those that may; that share is the last from now
        on.
        """
        for share, queue in self._queues.items():
            if may(share):
                item = queue.popleft()
                if queue:
                    self._queues.move_to_end(share)
                else:
                    del self._queues[share]
                return share, item
        return None


class FairSlots:
    """Bounds how much is done at once, and how much of that for one share."""

    def __init__(self, total: int, of_share: int) -> None:
        self._free = total
        self._of_share = of_share
        self._used: Counter[str] = Counter()
        self._waiting: Shares[asyncio.Future[None]] = Shares()

    @asynccontextmanager
    async def of(self, share: str) -> AsyncIterator[None]:
        """Waits for a slot and holds it in the block."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.put(share, turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._release(share)
            raise
        try:
            yield
        finally:
            self._release(share)

    def _release(self, share: str) -> None:
        self._free += 1
        self._used[share] -= 1
        if not self._used[share]:
            del self._used[share]
        self._serve()

    def _serve(self) -> None:
        while self._free and (found := self._waiting.take(lambda share: self._used[share] < self._of_share)):
            share, turn = found
            if not turn.cancelled():
                self._free -= 1
                self._used[share] += 1
                turn.set_result(None)
