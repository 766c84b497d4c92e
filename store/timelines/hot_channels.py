"""Hot channels: the newest messages of channels that many pull from, held by this process.

A channel is hot while so many pulls a second take news from it; then pulls take them from here, and Redis reads only
what is newer than what is held, for the first pull that meets it. The cached messages of a channel never change: they
are replaced by a longer list, so a pull may go on with the one that it told the script of.
"""

import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from store.record import Message, Shared, decode
from store.redis.client import RedisClient
from store.redis.pipelined import RedisConnection
from store.redis.scripts import script
from store.timelines.replacement_notices import ReadReport, with_change
from store.workers import Worker

SECONDS = 1.0
MAX_CHANNELS = 64
CHANNEL_BYTES = 2 * 1024 * 1024
_SYNC_BYTES = 4 * 1024 * 1024
"""About how much one call takes from Redis: everybody else waits for it."""
_BESIDE_BYTES = 1024
"""About how much memory a message takes beside its payload."""

log = structlog.get_logger(__name__)


class CachedChannel(NamedTuple):
    """All messages of a channel above `low`, in order; `head` is the id of the newest there was. size: in bytes."""

    low: int
    head: int
    messages: tuple[Message, ...] = ()
    ids: tuple[int, ...] = ()
    size: int = 0

    def between(self, intervals: Iterable[tuple[int, int]], after: int, limit: int) -> list[Message]:
        """Returns the first ones above `after` that lie inside intervals, whose ends are excluded."""
        found: list[Message] = []
        for joined, left in intervals:
            first = bisect_right(self.ids, max(joined, after))
            end = min(bisect_left(self.ids, left), first + limit - len(found))
            found += self.messages[first:end]
        return found

    def grown(self, head: int, newer: Iterable[Message], read_report: ReadReport) -> "CachedChannel":
        """Returns the channel with what came up to `head`, in which recalls and edits have changed older messages."""
        if head <= self.head:
            return self
        added = tuple(message for message in newer if message.mid > self.head)
        ids = self.ids + tuple(message.mid for message in added)
        messages, size = self.messages + added, self.size + sum(map(_size, added))
        for message in added:
            report = read_report(message)
            place = bisect_left(ids, report.mid) if report else len(ids)
            if report and place < len(ids) and ids[place] == report.mid:
                changed = with_change(messages[place], report, message.mid)
                size += _size(changed) - _size(messages[place])
                messages = (*messages[:place], changed, *messages[place + 1 :])
        return CachedChannel(self.low, head, messages, ids, size)

    def bounded(self) -> "CachedChannel":
        """Returns the channel without its oldest messages, if it is too large."""
        size, dropped = self.size, 0
        while size > CHANNEL_BYTES:
            size -= _size(self.messages[dropped])
            dropped += 1
        if not dropped:
            return self
        return CachedChannel(self.ids[dropped - 1], self.head, self.messages[dropped:], self.ids[dropped:], size)


def _size(message: Message) -> int:
    """Returns the bytes of a message, both as it was stored and as answers contain it."""
    return 2 * len(message.payload) + _BESIDE_BYTES


class NewestRecords(NamedTuple):
    """All records of a channel above `low`, oldest first. head: the id of the newest."""

    low: int
    head: int
    records: list[bytes]


class HotReply(NamedTuple):
    """The reply of `hot.lua`. channels: in the order in which they were asked for; None: it was not reached."""

    epoch: str
    channels: list[NewestRecords | None]

    @classmethod
    def parse(cls, reply: list[Any]) -> "HotReply":
        epoch, channels = reply
        return cls(
            epoch.decode(),
            [found and NewestRecords(int(found[0]), int(found[1]), found[:1:-1]) for found in channels],
        )


_SCRIPT = script("hot", HotReply)


class CacheSnapshot(NamedTuple):
    """The cached messages that a pull tells the script of. text: as the script wants it."""

    epoch: str
    text: bytes
    held: Mapping[str, CachedChannel]


class CacheStats(NamedTuple):
    """Counts since the last one. hits: channels with news that pulls took from the cache. cold, older: that
    they read from Redis, as the channel is not hot, or as they began below what is held.

    rates: hot channels, by hits a second.
    """

    hits: int
    cold: int
    older: int
    rates: Mapping[str, float]


class HotChannels:
    """threshold: hits a second from which on a channel is hot; one that has less than half of it cools down."""

    def __init__(
        self,
        redis: RedisClient | RedisConnection,
        threshold: float,
        read_report: ReadReport,
        on_stats: Callable[[CacheStats], object] = lambda stats: None,
        channels: int = MAX_CHANNELS,
    ) -> None:
        """channels: how many may be hot at a time."""
        self._redis = redis
        self._threshold = threshold
        self._read_report = read_report
        self._on_stats = on_stats
        self._channels = channels
        self._epoch = ""
        self._held: dict[str, CachedChannel] = {}
        self._offer: CacheSnapshot | None = None
        self._rates: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._hits = self._cold = self._older = 0

    def offer(self) -> CacheSnapshot:
        if self._offer is None:
            lines = [f"\n{name} {held.low} {held.head}" for name, held in self._held.items()]
            self._offer = CacheSnapshot(self._epoch, "".join(lines).encode(), dict(self._held))
        return self._offer

    def begin(self, epoch: str) -> None:
        """Empties the cache if it belongs to another epoch of the store."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._held.clear()
            self._offer = None

    def take(self, offer: CacheSnapshot, name: str, head: int, records: Sequence[bytes]) -> CachedChannel:
        """Returns a pull's copy of a channel, with the newer records that the script returned."""
        self._counts[name] += 1
        self._hits += 1
        held = offer.held[name].grown(head, [Shared(*decode(record)) for record in records], self._read_report)
        now = self._held.get(name)
        if offer.epoch == self._epoch and now is not None and now.head < head:
            self._put(name, held)
        return held

    def missed(self, offer: CacheSnapshot, names: Iterable[str]) -> None:
        """Counts channels that a pull read from Redis."""
        for name in names:
            self._counts[name] += 1
            if name in offer.held:
                self._older += 1
            else:
                self._cold += 1

    async def run(self, worker: Worker) -> None:
        last = time.monotonic()

        async def step() -> None:
            nonlocal last
            before, last = last, time.monotonic()
            await self.step(max(SECONDS, last - before))

        await worker.every(SECONDS, step)

    async def step(self, seconds: float = SECONDS) -> None:
        """Runs once a second: decides which channels are hot, and brings the cache up to date.

        Raises StoreError.
        """
        self._judge(seconds)
        self._on_stats(CacheStats(self._hits, self._cold, self._older, dict(self._rates)))
        self._hits = self._cold = self._older = 0
        if self._rates:
            await self._sync()

    def _judge(self, seconds: float) -> None:
        """Half of a channel's rate is that of the last second, the other half what it was before."""
        counts, self._counts = self._counts, Counter()
        rates = {name: (rate + counts[name] / seconds) / 2 for name, rate in self._rates.items()}
        rates = {name: rate for name, rate in rates.items() if rate >= self._threshold / 2}
        for name, count in counts.items():
            if name not in rates and count / seconds >= self._threshold:
                rates[name] = count / seconds
        hottest = sorted(rates, key=rates.__getitem__, reverse=True)[: self._channels]
        before, self._rates = self._rates, {name: rates[name] for name in hottest}
        for name in self._rates.keys() - before.keys():
            log.info("channel_hot", channel=name, hits=round(self._rates[name], 1))
        for name in before.keys() - self._rates.keys():
            log.info("channel_cooled", channel=name)
            if self._held.pop(name, None) is not None:
                self._offer = None

    async def _sync(self) -> None:
        epoch, names = self._epoch, list(self._rates)
        arguments: list[Any] = []
        for name in names:
            arguments += (name, self._held[name].head if name in self._held else 0)
        reply = await _SCRIPT.run(
            self._redis,
            more_arguments=arguments,
            known_epoch=epoch,
            max_bytes=CHANNEL_BYTES,
            beside=_BESIDE_BYTES,
            max_bytes_in_all=_SYNC_BYTES,
        )
        if epoch != self._epoch:
            # A pull has met another life of the store meanwhile.
            return
        self.begin(reply.epoch)
        for name, newest in zip(names, reply.channels, strict=True):
            if newest is None or name not in self._rates:
                continue
            held = self._held.get(name)
            if held is None or newest.low > held.head:
                held = CachedChannel(newest.low, newest.low)
            newer = [Shared(*decode(record)) for record in newest.records]
            self._put(name, held.grown(newest.head, newer, self._read_report))

    def _put(self, name: str, held: CachedChannel) -> None:
        self._held[name] = held.bounded()
        self._offer = None
