"""The device itself, as an application uses it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

import aiohttp

from emqx_im_client import doubts
from emqx_im_client.cancellation import cancel
from emqx_im_client.commands import CommandMethods
from emqx_im_client.connection import Connections
from emqx_im_client.doubts import TopicDoubts
from emqx_im_client.events import Event, live
from emqx_im_client.health import Health
from emqx_im_client.inbox import Inbox
from emqx_im_client.link import Broker, Link
from emqx_im_client.listener import Listener
from emqx_im_client.login import Login
from emqx_im_client.outbox import Outbox
from emqx_im_client.pull import Puller
from emqx_im_client.pulling import Pulling
from emqx_im_client.sending import Sender
from emqx_im_client.state import State
from emqx_im_client.subscriptions import Subscriptions


class Device(CommandMethods):
    """One device of one user, connected from `async with` to its end; iterate over it for its events.

    token: called for a JWT at each connection and pull, so that it may be renewed; url: the service's
    address, without `/pull`; clientid: names the device among all of the user's, the same over restarts, by default the
    state's own id; clean_session: False lets the broker keep messages for the device while it is away; patience:
    seconds until a message is given up; trusted_send: the service and its broker run with IM_TRUSTED_SEND.
    """

    def __init__(
        self,
        uid: int,
        token: Callable[[], str],
        broker: Broker,
        url: str,
        state: State,
        *,
        clientid: str | None = None,
        clean_session: bool = True,
        patience: float = 3600,
        trusted_send: bool = False,
    ) -> None:
        self.uid = uid
        self._login = Login(uid, token)
        self._broker = broker
        self._url = url
        self._clientid = clientid or state.saved.device
        self._clean_session = clean_session
        self._trusted_send = trusted_send
        self._inbox = Inbox(str(uid), state)
        self._outbox = Outbox(uid, state, patience, self._inbox.tell)
        self._outbox.on_stored = self._inbox.take_own
        self._pulling: Pulling | None = None
        self._failure: Exception | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        running = asyncio.create_task(self._run(session))
        self._stack.push_async_callback(cancel, running)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._inbox.done()
        await self._stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Returns the next event. Raises Unauthorized or PullRefused when the device cannot go on."""
        return await self._inbox.next()

    async def send(self, topic: str, body: Any, *, type: str = "text") -> int:  # noqa: A002
        """Sends a message, waits until it is stored, and returns its `mid`.

        Raises Refused, Unanswered, Unauthorized, ValueError for a topic that nobody can publish to. A message over the
        sender's budget is kept, and sent again when the service says. To keep an order, await one before the next.
        What this device sent does not come back as an event.
        """
        return await self.publish(topic, {"type": type, "body": body})

    async def publish(self, topic: str, fields: dict[str, Any]) -> int:
        """Sends as `send` does, with any fields: group commands. `id`, `from` and `ack` are the device's."""
        if self._failure is not None:
            raise self._failure
        outgoing = self._outbox.compose(topic, fields)
        # Before it is saved, so that a later run that sends it again recognises it, too.
        self._inbox.remember(live(topic, outgoing.payload.encode(), 1), stored=True)
        self._outbox.add(outgoing)
        return await self._outbox.answer(outgoing)

    def unread(self) -> dict[str, int]:
        """Returns how many messages of others each conversation has above the user's read mark."""
        return self._inbox.kept.unread()

    def states(self) -> list[dict[str, Any]]:
        """Returns read marks, settings and blocks, the newest of each, as the pull gives them."""
        return self._inbox.kept.states()

    async def read(self, conversation: str, mid: int | None = None) -> None:
        """Marks the conversation as read up to `mid`, by default all of it. Raises as `send` does."""
        if mid is None:
            if self._pulling is not None and conversation in self._inbox.kept.claims():
                # A live message has no `mid` until a pull brings it.
                with suppress(TimeoutError):
                    async with asyncio.timeout(doubts.PROOF):
                        await self._pulling.pull_anew()
            mid = self._inbox.kept.newest_unread(conversation)
        if mid is not None:
            await self.publish(f"{conversation}/read", {"mid": mid})

    async def settled(self) -> None:
        """Waits until everything stored before has been dealt with, and everything sent is answered.

        Somebody must be iterating meanwhile; if the device cannot go on, the iteration raises.
        """
        await self._inbox.caught_up.wait()
        await self._outbox.empty()

    async def _run(self, session: aiohttp.ClientSession) -> None:
        own = f"single/{self.uid}"
        health = Health(own, self._inbox.report)
        self._inbox.on_saved = health.saved
        subscriptions = Subscriptions(own)
        pulling = Pulling(Puller(session, self._url, self._login), self._inbox, health)
        listener = Listener(own, self._inbox, self._outbox, subscriptions, pulling, trusted_send=self._trusted_send)
        self._pulling = pulling
        sender = Sender(self._outbox, TopicDoubts(pulling), trusted_send=self._trusted_send)
        try:
            await Connections(
                own, self._clientid, self._link, health, listener, pulling, sender, subscriptions
            ).keep_connected()
        except Exception as failure:
            self._failure = failure
            self._inbox.fail(failure)
            self._outbox.fail(failure)

    def _link(self) -> Link:
        token = self._login.token()
        return Link(self._broker, str(self.uid), token, self._clientid, clean_session=self._clean_session)
