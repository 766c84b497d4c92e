"""When the device pulls: at each connection, when it is told, and now and then."""

import asyncio
import math
import random
from collections.abc import Callable

from emqx_im_client.backoff import Backoff
from emqx_im_client.health import Health
from emqx_im_client.inbox import Inbox
from emqx_im_client.pull import Puller, PullFailed

PULL_EVERY = (240.0, 360.0)
"""Seconds between pulls that nothing asked for."""

AGAIN_AFTER = 2.0
"""Seconds after a subscription is granted that a pull begins once more: what the broker routed just before it knew of
the subscription, and the service stored just after the first pull, is there by then, or an `im.sync` tells of it. Live
messages wait until then."""

HINT = 1.0
"""Seconds at most until a pull that a hint asks for: anybody can give one, and many devices hear it at once."""

HOLD = 10.0
"""Seconds for which live messages wait for a pull that fails: what it brings is earlier."""

PAUSES = (0.5, 60.0)
"""Seconds until a pull that failed is tried again: the first pause, and the longest."""


class Pulling:
    """Pulls into the inbox, on one connection after the other."""

    def __init__(self, puller: Puller, inbox: Inbox, health: Health) -> None:
        self.on_key: Callable[[str], None] = lambda key: None
        """Called with the service's secret with this user, which each page brings."""
        self.complete = asyncio.Event()
        """Set once everything has been pulled since this connection began."""
        self.answered_at = -math.inf
        """When the service answered a pull last, as a time of the event loop."""
        self.writes_wait = False
        """Whether it said then that it stores nothing, as it has no room."""
        self._puller = puller
        self._inbox = inbox
        self._health = health
        self._wanted = asyncio.Event()
        self._hinted: asyncio.TimerHandle | None = None
        self._begun_at = -math.inf
        self._again_at = -math.inf
        self._ended = asyncio.Event()

    def begin(self) -> None:
        """Begins with a new connection: what is heard on it waits behind what is pulled."""
        self.complete.clear()
        self._inbox.hold()

    def ask(self) -> None:
        """Asks for a pull, because there may be something new."""
        self._wanted.set()

    def on_subscribed(self) -> None:
        """Asks for a pull now and another a little later, because the device hears more topics from now on."""
        self._again_at = _now() + AGAIN_AFTER
        self.ask()

    def hint(self) -> None:
        """Asks for a pull on a hint, which anybody can give, that there is something new."""
        if self._hinted is None or self._hinted.when() < _now():
            wait = random.uniform(0, HINT)  # noqa: S311
            self._hinted = asyncio.get_running_loop().call_later(wait, self.ask)

    async def pull_anew(self) -> None:
        """Waits until a pull that begins from now on has come to its end."""
        asked = _now()
        self.ask()
        while self._begun_at < asked or not self._ended.is_set():
            self._ended.clear()
            await self._ended.wait()

    def ask_up_to(self, head: int) -> None:
        """Asks for a pull because the service says that there are messages up to `head`."""
        if head > self._inbox.position.cursor:
            self._wanted.set()

    async def keep_pulling(self) -> None:
        """Pulls on one connection, which hears what is sent from now on, until it ends."""
        self.on_subscribed()
        while True:
            self._wanted.clear()
            await self._pull_to_the_end()
            self.complete.set()
            again = self._begun_at < self._again_at
            due = self._again_at if again else _now() + random.uniform(*PULL_EVERY)  # noqa: S311
            try:
                async with asyncio.timeout_at(due):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _pull_to_the_end(self) -> None:
        """Pulls to the end. Live messages wait behind the pages, but not for long where the service is away.

        Just after a subscription they wait for the next pull, too: this one may not have what was sent before them.
        """
        pauses = Backoff(*PAUSES)
        begun_at = _now()
        more = True
        while more:
            self._inbox.hold()
            try:
                page = await self._puller.page(self._inbox.position)
            except PullFailed as failed:
                self._health.failed("pull", str(failed), refused=failed.refused)
                await self._pause(max(failed.retry_after, pauses.pause()), begun_at + HOLD)
                continue
            pauses.reset()
            self._health.accepted("pull")
            self.answered_at, self.writes_wait = _now(), page.writes_wait
            self.on_key(page.key)
            await self._inbox.take(page)
            more = page.more
        self._health.works("pull")
        if begun_at >= self._again_at:
            self._inbox.release()
        self._inbox.pulled_up_to(begun_at)
        self._begun_at = begun_at
        self._ended.set()

    async def _pause(self, seconds: float, held_until: float) -> None:
        until = _now() + seconds
        if held_until < until:
            await asyncio.sleep(held_until - _now())
            self._inbox.release()
        await asyncio.sleep(until - _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
