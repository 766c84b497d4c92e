"""Watches topics about which the service says nothing, though it could. EMQX caches its decisions about a connection
for an hour, and MQTT 3.1.1 does not tell a refused client: after a denial of the moment when the service was away,
the broker takes what is sent and drops it. Only another connection helps then. It costs a question about each topic
that the device hears, so it is not the answer to a service that is away, or slow, or has no room to store anything.
"""

import asyncio

from emqx_im_client.backoff import Backoff
from emqx_im_client.pulling import Pulling

ANSWER = (40.0, 900.0)
"""Seconds without any answer about a topic after which it is in doubt: the first time, and the longest."""

PROOF = 10.0
"""Seconds that the service then has to answer a pull, and after that what is sent once more."""


class NothingAnswered(Exception):
    """The broker takes what is sent, the service answers pulls, and does not hear of it."""


class TopicDoubts:
    """One for all connections of a device: a topic that stays unanswered is given longer each time."""

    def __init__(self, pulling: Pulling) -> None:
        self._pulling = pulling
        self._longer: dict[str, Backoff] = {}
        self.begin()

    def begin(self) -> None:
        """Begins with a new connection, on which nothing was sent yet."""
        self._deadlines: dict[str, float] = {}
        self._doubted_at: dict[str, float] = {}
        self._last_chance: set[str] = set()

    def taken(self, topic: str) -> None:
        """Notes that the broker has accepted a message for the topic."""
        if topic not in self._deadlines:
            longer = self._longer.setdefault(topic, Backoff(*ANSWER))
            self._deadlines[topic] = _now() + longer.pause()

    def answered(self, topic: str) -> None:
        """Notes that the service answered, so this connection carries what is sent to the topic."""
        self._longer.pop(topic, None)
        self._deadlines.pop(topic, None)
        self._doubted_at.pop(topic, None)
        self._last_chance.discard(topic)

    def keep_only(self, topics: set[str]) -> None:
        """Forgets all other topics, about which no answer is expected any more."""
        for topic in set(self._longer) - topics:
            self.answered(topic)

    def next_time(self) -> float | None:
        """Returns when `check` is due, as a time of the event loop."""
        return min(self._deadlines.values(), default=None)

    def check(self) -> set[str]:
        """Returns the topics to which everything is to be sent again now. Raises NothingAnswered."""
        again = set()
        for topic, deadline in self._deadlines.items():
            if deadline > _now():
                continue
            pause = PROOF
            if self._pulling.answered_at <= self._doubted_at.setdefault(topic, _now()):
                self._pulling.ask()
            elif self._pulling.writes_wait:
                self._doubted_at.pop(topic)
                self._last_chance.discard(topic)
                pause = self._longer[topic].pause()
            elif topic in self._last_chance:
                raise NothingAnswered(f"nothing that is sent to {topic} is answered")
            else:
                self._last_chance.add(topic)
                again.add(topic)
            self._deadlines[topic] = _now() + pause
        return again


def _now() -> float:
    return asyncio.get_running_loop().time()
