"""Subscribes to the topics that the service names, beside the device's own, a few at a time.

The broker asks the service about each topic, one after the other, and answers nothing else meanwhile. After a restart
of the broker all devices ask at once. So a packet has as many topics as were answered in a few seconds: nobody
takes the broker for dead and begins again, which would only make more questions.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import islice

from emqx_im_client.backoff import Backoff
from emqx_im_client.link import Link
from emqx_im_client.topics import is_topic

FIRST = 4
"""Topics in the first packet, and …"""

MAX_TOPICS = 100
"""… in the largest, which no broker finds too large."""

SECONDS = 3.0
"""Seconds that a packet should take."""

AGAIN = (30.0, 600.0)
"""Seconds until topics that the broker refused, though the service named them, are asked for again: the first pause,
and the longest. They come by the pull meanwhile."""

ANEW = (300.0, 3600.0)
"""Seconds of refusals until the device tries another connection, the first time and the longest: the broker keeps a
denial for as long as a connection lasts."""

_log = logging.getLogger(__name__)


class StillRefused(Exception):
    """The broker refuses what the service named; another connection may not."""


class Subscriptions:
    """The size of packets is kept over connections, like the time that a question takes."""

    def __init__(self, name: str) -> None:
        self.complete = asyncio.Event()
        """Set while no topic waits for its first answer on this connection."""
        self._name = name
        self._size = FIRST
        self._longer = Backoff(*ANEW)
        self._changed = asyncio.Event()
        self.begin({})

    def begin(self, answers: dict[str, bool]) -> None:
        """Begins with a new connection, on which these topics are granted or refused already."""
        self._granted = {topic for topic, granted in answers.items() if granted}
        self._refused = {topic for topic, granted in answers.items() if not granted}
        self._waiting: dict[str, None] = {}
        self._asked: set[str] = set()
        self._unwanted: dict[str, None] = {}
        self._pauses = Backoff(*AGAIN)
        self._again_at: float | None = None
        self._anew_at: float | None = None
        self.complete.clear()
        self._changed.set()

    def add(self, topics: Iterable[str]) -> None:
        """Adds topics that the service names, unless they are granted or asked for already."""
        for topic in topics:
            if not is_topic(topic):
                _log.warning("%s: %r is not a topic to subscribe to", self._name, topic)
            elif topic not in self._granted and topic not in self._asked:
                self._refused.discard(topic)
                self._waiting[topic] = None
                self.complete.clear()
        self._changed.set()

    def remove(self, topics: Iterable[str]) -> None:
        """Removes topics that the service takes away."""
        for topic in topics:
            self._waiting.pop(topic, None)
            self._refused.discard(topic)
            if topic in self._granted or topic in self._asked:
                self._granted.discard(topic)
                self._asked.discard(topic)
                self._unwanted[topic] = None
        self._changed.set()

    async def keep_subscribing(self, link: Link, on_granted: Callable[[], None]) -> None:
        """Asks on one connection until it ends. Raises StillRefused, LinkDown.

        on_granted: called when all is answered, and something is granted.
        """
        new = False
        while True:
            self._changed.clear()
            if self._unwanted:
                await self._leave(link)
            elif self._waiting:
                new = await self._ask(link) or new
            else:
                if new:
                    on_granted()
                    if not self._refused:
                        self._longer.reset()
                new = False
                self.complete.set()
                await self._wait()

    async def _leave(self, link: Link) -> None:
        topics = list(islice(self._unwanted, MAX_TOPICS))
        for topic in topics:
            del self._unwanted[topic]
        await link.unsubscribe(topics)

    async def _ask(self, link: Link) -> bool:
        """Asks for as many topics as are answered in time. Returns whether any is granted."""
        topics = list(islice(self._waiting, self._size))
        for topic in topics:
            del self._waiting[topic]
        self._asked.update(topics)
        started = _now()
        try:
            answers = await link.subscribe(topics)
        except BaseException:
            self._size = max(1, len(topics) // 2)
            raise
        self._adapt(len(topics), _now() - started)
        granted = False
        for topic, answer in zip(topics, answers, strict=True):
            if topic not in self._asked:
                continue  # taken away meanwhile
            self._asked.discard(topic)
            (self._granted if answer else self._refused).add(topic)
            granted = granted or answer
            if not answer:
                _log.warning("%s: the broker refuses a subscription to %s", self._name, topic)
        return granted

    def _adapt(self, asked: int, seconds: float) -> None:
        fitting = int(asked * SECONDS / max(seconds, 0.001))
        if fitting < asked:
            self._size = max(1, fitting)
        else:
            self._size = max(self._size, min(fitting, 4 * asked, MAX_TOPICS))

    async def _wait(self) -> None:
        """Waits until there is something to do; refused topics are asked for again after a while."""
        if not self._refused:
            self._again_at = self._anew_at = None
            self._pauses.reset()
        else:
            if self._again_at is None:
                self._again_at = _now() + self._pauses.pause()
            if self._anew_at is None:
                self._anew_at = _now() + self._longer.pause()
            elif self._anew_at <= _now():
                raise StillRefused(f"the broker refuses subscriptions to {', '.join(sorted(self._refused))[:200]}")
        try:
            async with asyncio.timeout_at(self._again_at):
                await self._changed.wait()
        except TimeoutError:
            self._waiting |= dict.fromkeys(self._refused)
            self._refused.clear()
            self._again_at = None


def _now() -> float:
    return asyncio.get_running_loop().time()
