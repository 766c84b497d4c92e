"""Dead letters: what can never succeed, kept with its reason so that an operator can look and replay."""

import time
from base64 import b64encode
from typing import Any, NamedTuple

import orjson

from store.addresses import MAX_ID
from store.events.kinds import NO_EVENTS, WantedEvents
from store.redis import keys
from store.redis.client import RedisClient
from store.redis.memory import StoreMemory
from store.redis.scripts import script

MAX_BODY = 64 * 1024
MAX_OF_SENDER = 100
MAX_BYTES = 256 * 1024 * 1024


_LOOKED_AT = 200
"""Letters that are read together: they have up to 64 KiB each."""

ARCHIVE = "archive"
"""The source of what was in the outbox. It is kept without an epoch, too, as a rebuild empties the outbox."""


class KeptLetter(NamedTuple):
    """tell: the sender has not been told of a refusal within the last second."""

    number: int
    tell: bool

    @classmethod
    def parse(cls, reply: list[int]) -> "KeptLetter":
        return cls(reply[0], reply[1] == 1)


_KEEP = script("deadletter_keep", KeptLetter)
_DROP = script("deadletter_drop", int)


class LetterKind(NamedTuple):
    """Selects letters: those of a reason, of a sender ("": any), and refused from `since` on, but before `until`
    (milliseconds)."""

    reason: str = ""
    sender: str = ""
    since: int = 0
    until: int = MAX_ID

    def has(self, letter: dict[str, Any]) -> bool:
        return (
            self.reason in ("", letter["reason"])
            and self.sender in ("", letter["sender"])
            and self.since <= letter["at"] < self.until
        )


class DeadLetters:
    def __init__(
        self, redis: RedisClient, memory: StoreMemory | None = None, *, events: WantedEvents = NO_EVENTS
    ) -> None:
        self._redis = redis
        self._memory = memory
        self._events = events.arguments

    async def keep(self, *, source: str, reason: str, message: str, sender: str, body: bytes) -> KeptLetter:
        """Keeps what `source` (a webhook path, or `archive`) had to refuse for `reason`. A body over 64 KiB is cut.

        Raises StoreAway; StoreEmpty, StoreFull unless it comes from the outbox, and makes room there.
        """
        if self._memory is not None and source != ARCHIVE:
            self._memory.require_room()
        letter = orjson.dumps(
            {
                "at": time.time_ns() // 1_000_000,
                "source": source,
                "reason": reason,
                "message": message,
                "sender": sender,
                "body_b64": b64encode(body[:MAX_BODY]).decode(),
                "cut": len(body) > MAX_BODY,
            }
        )
        return await _KEEP.run(
            self._redis,
            dead_told_key=keys.dead_told(sender),
            sender=sender,
            letter=letter,
            max_of_sender=MAX_OF_SENDER,
            max_bytes=MAX_BYTES,
            needs_epoch=int(source != ARCHIVE),
            **self._events,
        )

    async def may_tell(self, sender: str) -> bool:
        """Returns whether the sender has not been told of a refusal within the last second; they count as told now."""
        return bool(await self._redis.set(keys.dead_told(sender), b"1", nx=True, ex=1))

    async def page(self, after: int, limit: int, sender: str = "") -> list[dict[str, Any]]:
        """Returns letters with a number above `after`, of one sender if given, oldest first: `n`, `at` (ms), `source`,
        `reason`, `message`, `sender`, `body_b64`, `cut`."""
        numbers: Any
        if sender:
            kept = await self._redis.lrange(keys.dead_of(sender), 0, -1)
            numbers = [number for number in kept if int(number) > after][:limit]
        else:
            numbers = await self._redis.zrangebyscore(keys.DEAD_NUMBERS, f"({after}", "+inf", start=0, num=limit)
        letters = await self._redis.hmget(keys.DEAD_LETTERS, numbers) if numbers else []
        return [
            {"n": int(number), **orjson.loads(letter)}
            for number, letter in zip(numbers, letters, strict=True)
            if letter is not None
        ]

    async def find(self, after: int, limit: int, kind: LetterKind) -> list[dict[str, Any]]:
        """Returns letters of a kind, as `page` does."""
        found: list[dict[str, Any]] = []
        while len(found) < limit and (letters := await self.page(after, _LOOKED_AT, kind.sender)):
            found += filter(kind.has, letters)
            after = letters[-1]["n"]
        return found[:limit]

    async def get(self, number: int) -> dict[str, Any] | None:
        letter = await self._redis.hget(keys.DEAD_LETTERS, str(number))
        return None if letter is None else {"n": number, **orjson.loads(letter)}

    async def drop(self, number: int) -> bool:
        """Deletes a letter; returns False if it did not exist."""
        letter = await self.get(number)
        if letter is None:
            return False
        sender = letter["sender"]
        return bool(await _DROP.run(self._redis, dead_of_key=keys.dead_of(sender), number=number, sender=sender))
