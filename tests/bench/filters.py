"""Bloom, counting Bloom and cuckoo filter of user ids, plain and small: for comparison, not for use."""

import math
from array import array
from hashlib import blake2b

FALSE_RATE = 0.01
"""The size for which a Bloom filter is made."""


def _hashes(uid: int) -> tuple[int, int]:
    digest = blake2b(uid.to_bytes(8, "big"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1


class Bloom:
    """Bits only: what was added cannot be taken out."""

    def __init__(self, capacity: int) -> None:
        self.places = math.ceil(-capacity * math.log(FALSE_RATE) / math.log(2) ** 2)
        self.rounds = round(self.places / capacity * math.log(2))
        self._bits = bytearray(self.places // 8 + 1)

    def size(self) -> int:
        return len(self._bits)

    def _of(self, uid: int) -> list[int]:
        first, step = _hashes(uid)
        return [(first + number * step) % self.places for number in range(self.rounds)]

    def add(self, uid: int) -> None:
        for place in self._of(uid):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, uid: int) -> bool:
        return all(self._bits[place >> 3] & 1 << (place & 7) for place in self._of(uid))


class Counting(Bloom):
    """Four bits a counter; one that is full stays so."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._bits = bytearray(self.places // 2 + 1)

    def _count(self, place: int) -> int:
        return self._bits[place >> 1] >> 4 * (place & 1) & 15

    def _change(self, place: int, by: int) -> None:
        count = self._count(place)
        if 0 < count < 15 or (count == 0 and by > 0):
            self._bits[place >> 1] += by << 4 * (place & 1)

    def add(self, uid: int) -> None:
        for place in self._of(uid):
            self._change(place, 1)

    def remove(self, uid: int) -> None:
        """Removes a user; if they are not in it, it removes a part of others."""
        for place in self._of(uid):
            self._change(place, -1)

    def __contains__(self, uid: int) -> bool:
        return all(self._count(place) for place in self._of(uid))


class Cuckoo:
    """16 bits of a user in one of two buckets of four. Raises OverflowError if no place is found."""

    _SLOTS = 4
    _MAX_MOVES = 500

    def __init__(self, capacity: int) -> None:
        self._buckets = 1 << math.ceil(math.log2(capacity / 0.95 / self._SLOTS))
        self._cells = array("H", bytes(2 * self._SLOTS * self._buckets))

    def size(self) -> int:
        return 2 * len(self._cells)

    def _of(self, uid: int) -> tuple[int, int, int]:
        first, second = _hashes(uid)
        mark = second % 65_535 + 1
        bucket = first % self._buckets
        return mark, bucket, self._other(bucket, mark)

    def _other(self, bucket: int, mark: int) -> int:
        return (bucket ^ mark * 0x5BD1E995) % self._buckets

    def _find(self, bucket: int, mark: int) -> int | None:
        start = bucket * self._SLOTS
        return next((place for place in range(start, start + self._SLOTS) if self._cells[place] == mark), None)

    def add(self, uid: int) -> None:
        mark, *buckets = self._of(uid)
        bucket = buckets[0]
        for move in range(self._MAX_MOVES):
            for candidate in buckets if move == 0 else [bucket]:
                if (free := self._find(candidate, 0)) is not None:
                    self._cells[free] = mark
                    return
            moved = bucket * self._SLOTS + move % self._SLOTS
            mark, self._cells[moved] = self._cells[moved], mark
            bucket = self._other(bucket, mark)
        raise OverflowError("the filter is full")

    def remove(self, uid: int) -> None:
        """Removes a user; if they are not in it, it may remove another."""
        mark, *buckets = self._of(uid)
        for bucket in buckets:
            if (held := self._find(bucket, mark)) is not None:
                self._cells[held] = 0
                return

    def __contains__(self, uid: int) -> bool:
        mark, *buckets = self._of(uid)
        return any(self._find(bucket, mark) is not None for bucket in buckets)
