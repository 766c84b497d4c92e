"""`/hooks/message`: messages with QoS 1 go into timelines."""

import asyncio
from binascii import Error as Base64Error
from binascii import a2b_base64
from functools import partial

from hooks.body import Body, moment, text, username
from hooks.emqx.acknowledge import Acknowledgements
from hooks.errors import BadBody, Refused
from hooks.payload import Payload, read
from hooks.topics import Global, Group, Single, number, receiver
from store.append import Appender, Stored
from store.record import SERVICE


class MessageHook:
    def __init__(
        self,
        appender: Appender,
        acknowledgements: Acknowledgements,
        *,
        operators: tuple[str, ...],
        most_payload: int,
    ) -> None:
        self._appender = appender
        self._acknowledgements = acknowledgements
        self._operators = frozenset(operators)
        self._most_payload = most_payload

    def __call__(self, body: Body) -> asyncio.Future[Stored] | None:
        """Raises BadBody, Refused, StoreError; so does the future."""
        topic, broker_id, ts = text(body, "topic"), text(body, "id"), moment(body, "publish_received_at")
        user = username(body)
        qos = body.get("qos")
        if type(qos) is not int or not 0 <= qos <= 2:
            raise BadBody("`qos` is missing or none")
        if qos == 0 or (user is None and not topic.startswith("business/")):
            return None
        if user == SERVICE:
            raise Refused("not_a_user", broker_id, "the username `0` is the service's")
        sender = SERVICE if user is None else user
        raw = _payload(body)
        payload = read(raw, sender, broker_id, self._most_payload)
        stored = self._store(topic, sender, payload, ts, raw)
        if payload.ack and number(sender) is not None:
            stored.add_done_callback(partial(self._acknowledge, sender, payload.client_id))
        return stored

    def _store(self, topic: str, sender: str, payload: Payload, ts: int, raw: bytes) -> asyncio.Future[Stored]:
        to = receiver(topic)
        if isinstance(to, Single):
            if number(sender) is None:
                raise Refused("not_a_user", payload.client_id)
        elif isinstance(to, Global):
            if sender != SERVICE and sender not in self._operators:
                raise Refused("not_an_operator", payload.client_id)
        else:
            raise Refused("unknown_group" if isinstance(to, Group) else "unknown_topic", payload.client_id)
        return self._appender.append(topic, sender, payload.client_id, ts, payload.json, raw)

    def _acknowledge(self, sender: str, client_id: str, stored: asyncio.Future[Stored]) -> None:
        if not stored.cancelled() and stored.exception() is None:
            self._acknowledgements.stored(sender, client_id, stored.result().mid)


def _payload(body: Body) -> bytes:
    encoded = body.get("payload_b64")
    if type(encoded) is not str:
        raise BadBody("`payload_b64` is missing or not a string")
    try:
        return a2b_base64(encoded, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise BadBody(f"`payload_b64` is not base64: {error}") from None
