"""Keeps one connection after the other: what is done on each, and how long the device waits before the next."""

import asyncio
import logging
from collections.abc import Callable
from typing import Never

from emqx_im_client.backoff import Backoff
from emqx_im_client.cancellation import until_one_fails
from emqx_im_client.doubts import NothingAnswered
from emqx_im_client.errors import DeviceError
from emqx_im_client.health import Health
from emqx_im_client.link import Link, LinkDown
from emqx_im_client.listener import Listener
from emqx_im_client.login import NoToken
from emqx_im_client.pulling import Pulling
from emqx_im_client.sending import Sender
from emqx_im_client.subscriptions import StillRefused, Subscriptions

PAUSES = (0.5, 60.0)
"""Seconds until the device connects again: the first pause, and the longest. The first again once it is up to date."""

STEADY = 10.0
"""Seconds after which a connection is not a sign of another device with the same clientid; it must also outlast the
pauses, because such a device makes pauses too."""

TAKEN_OVER = 4
"""Short connections in a row after which the application is told."""

_log = logging.getLogger(__name__)


class Connections:
    """own: the topic of the user's control messages; connect: makes a link, with a new token."""

    def __init__(
        self,
        own: str,
        clientid: str,
        connect: Callable[[], Link],
        health: Health,
        listener: Listener,
        pulling: Pulling,
        sender: Sender,
        subscriptions: Subscriptions,
    ) -> None:
        self._own = own
        self._clientid = clientid
        self._connect = connect
        self._health = health
        self._listener = listener
        self._pulling = pulling
        self._sender = sender
        self._subscriptions = subscriptions
        self._standing = False
        self._pauses = Backoff(*PAUSES)
        self._short = 0
        """Connections in a row that stood and ended soon."""

    async def keep_connected(self) -> Never:
        """Keeps the device connected. Raises DeviceError for what cannot mend itself; everything else is tried
        again."""
        while True:
            self._standing = False
            try:
                await self._use_one()
            except LinkDown as down:
                self._note_cut(down)
            except (NothingAnswered, StillRefused, NoToken) as error:
                self._health.failed("broker", str(error))
            except DeviceError:
                raise
            except Exception as error:
                # A full disk, for instance. It must not end the device, and must not be hidden.
                _log.exception("%s: unexpected", self._own)
                self._health.failed("broker", f"{type(error).__name__}: {error}")
            self._short += self._standing
            await asyncio.sleep(self._pauses.pause())

    async def _use_one(self) -> None:
        """Uses one connection until it breaks."""
        async with self._connect() as link:
            self._health.accepted("broker")
            self._pulling.begin()
            topics = (self._own, "business/global")
            granted = dict(zip(topics, await link.subscribe(topics), strict=True))
            if not granted.pop(self._own):
                raise LinkDown(f"the broker refuses a subscription to {self._own}")
            self._standing = True
            self._subscriptions.begin(granted)
            await until_one_fails(
                self._listen(link),
                self._pulling.keep_pulling(),
                self._sender.keep_sending(link.publish),
                self._subscriptions.keep_subscribing(link, self._pulling.on_subscribed),
                self._watch(),
            )

    async def _listen(self, link: Link) -> None:
        while True:
            self._listener.hear(*await link.receive())

    async def _watch(self) -> None:
        """Reports when the device is up to date. Then the next pause is short, unless connections keep ending."""
        begun = asyncio.get_running_loop().time()
        await self._pulling.complete.wait()
        await self._subscriptions.complete.wait()
        if self._short < TAKEN_OVER:
            self._health.works("broker")
        if not self._short:
            self._pauses.reset()
        stood = asyncio.get_running_loop().time() - begun
        await asyncio.sleep(max(STEADY, 2 * self._pauses.next) - stood)
        self._short = 0
        self._standing = False
        self._pauses.reset()
        self._health.works("broker")
        await asyncio.Event().wait()

    def _note_cut(self, down: LinkDown) -> None:
        reason = str(down)
        if self._standing and self._short + 1 >= TAKEN_OVER:
            reason = f"connections end soon after they begin: does another device use the clientid {self._clientid!r}?"
        self._health.failed("broker", reason, refused=down.refused)
