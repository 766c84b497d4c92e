"""Makes growing pauses of random length between tries, so that devices cut off together come back at different
times."""

import random


class Backoff:
    """Pauses in seconds: each up to twice the one before, never above `longest`."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    @property
    def next(self) -> float:
        """Returns the length of the next pause at most."""
        return self._next

    def reset(self) -> None:
        self._next = self._first

    def pause(self) -> float:
        ceiling = self._next
        self._next = min(2 * ceiling, self._longest)
        return ceiling * random.uniform(0.5, 1)  # noqa: S311
