"""Hears live messages: users' are for the application, the service's own for the device."""

import logging
from collections import deque
from typing import Any

from emqx_im_client.events import Message, Received, live
from emqx_im_client.inbox import ROOM, Inbox
from emqx_im_client.outbox import Outbox
from emqx_im_client.pull import is_state
from emqx_im_client.pulling import Pulling
from emqx_im_client.subscriptions import Subscriptions
from emqx_im_client.trusted import delivered

_log = logging.getLogger(__name__)


class Listener:
    """own: the topic of the user's control messages; trusted_send: the broker says who sent what it delivers."""

    def __init__(
        self,
        own: str,
        inbox: Inbox,
        outbox: Outbox,
        subscriptions: Subscriptions,
        pulling: Pulling,
        *,
        trusted_send: bool,
    ) -> None:
        self._own = own
        self._inbox = inbox
        self._outbox = outbox
        self._subscriptions = subscriptions
        self._pulling = pulling
        pulling.on_key = self._learn
        self._trusted_send = trusted_send
        self._key: str | None = None
        self._unjudged: deque[Message] = deque(maxlen=ROOM)

    def hear(self, topic: str, payload: bytes, qos: int) -> None:
        """Takes one delivery."""
        if self._trusted_send and (sent := delivered(topic, payload, qos)):
            # The broker says who sent it; a user who plays the service is not heard.
            if not _is_the_services(sent):
                self._offer(Received(sent, confirmed=True))
        else:
            self._judge(live(topic, payload, qos))

    def _learn(self, key: str) -> None:
        """Takes the service's secret with this user, by which its messages are known."""
        self._key = key
        for _ in range(len(self._unjudged)):
            self._judge(self._unjudged.popleft())

    def _judge(self, message: Message) -> None:
        """The service's own messages are true only with its secret, which the first pull brings."""
        if not _is_the_services(message):
            self._offer(Received(message, confirmed=False))
        elif message.type in ("im.recalled", "im.edited") or message.topic != self._own:
            # Anybody can say so, and the pull knows.
            self._pulling.hint()
        elif self._key is None:
            self._unjudged.append(message)
        elif message.secret == self._key:
            try:
                self._obey(message)
            except (KeyError, TypeError, ValueError) as error:
                # That of a service of another version: the pull has what is stored.
                _log.warning("%s: %s is not understood: %r", self._own, message.type, error)

    def _offer(self, received: Received) -> None:
        if not self._inbox.offer(received):
            self._pulling.ask()

    def _obey(self, message: Message) -> None:
        """Raises KeyError, TypeError, ValueError."""
        body: dict[str, Any] = message.body if isinstance(message.body, dict) else {}
        match message.type:
            case "im.ack":
                self._outbox.acknowledged(body)
            case "im.error":
                self._outbox.refused(body)
            case "im.sync":
                self._pulling.ask_up_to(body["head"])
            case "im.subscribe":
                self._subscriptions.add([entry["topic"] for entry in body["topics"]])
                self._pulling.ask_up_to(body["head"])
            case "im.unsubscribe":
                self._subscriptions.remove([entry["topic"] for entry in body["topics"]])
            case "im.state":
                if is_state(body):
                    self._inbox.offer_state(body)
                    if body["kind"] == "read" and body.get("by") is None:
                        # What another device has read came live, perhaps, and is unread here until it is pulled.
                        self._pulling.ask_up_to(body["mid"])
            case _:
                self._offer(Received(message, confirmed=True))


def _is_the_services(message: Message) -> bool:
    return (message.type or "").startswith("im.")
