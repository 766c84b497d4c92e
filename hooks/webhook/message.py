"""Handles `/hooks/message`: messages with QoS 1 go into timelines."""

import asyncio
import time
from functools import partial

from hooks.errors import Refused
from hooks.messaging.acknowledgements import Acknowledgements
from hooks.messaging.replacement_notices import EDITED, RECALLED
from hooks.messaging.sync import NEARLY_LATE_MS, Sync
from hooks.webhook import body as fields
from hooks.webhook.body import Body, moment, text, username
from hooks.webhook.payload import parse as parse_payload
from hooks.webhook.payload import read
from store.addresses import Address, Global, Group, Inbox, Tag, Topic, is_business, number, parse
from store.record import SERVICE
from store.timelines.append import Appender, Stored

_TOLD_LIVE = (RECALLED, EDITED)
"""Types of messages that the service stores first and then publishes: they come back through the broker's rule."""


class MessageHook:
    def __init__(
        self,
        appender: Appender,
        acknowledgements: Acknowledgements,
        sync: Sync,
        *,
        operators: tuple[str, ...],
        max_payload: int,
    ) -> None:
        self._appender = appender
        self._acknowledgements = acknowledgements
        self._sync = sync
        self._operators = frozenset(operators)
        self._max_payload = max_payload

    def __call__(self, body: Body) -> asyncio.Future[Stored] | None:
        """Stores a message. Raises BadBody, Refused, SenderOverBudget, StoreError, at once or when awaited; then also
        ChannelRefused, as whether a message is taken is judged where it gets its id.
        """
        topic, broker_id, ts = text(body, "topic"), text(body, "id"), moment(body, "publish_received_at")
        user, qos = username(body), fields.qos(body)
        if qos == 0 or (user is None and not is_business(topic)):
            return None
        if user == SERVICE:
            raise Refused("not_a_user", broker_id, "the username `0` is the service's")
        sender = SERVICE if user is None else user
        raw = fields.payload(body)
        try:
            payload = read(raw, sender, broker_id, self._max_payload)
        except Refused as refused:
            if user is not None or refused.code != "reserved_type" or not _is_told_live(raw):
                raise
            return None
        to = self._judge(parse(topic), sender, payload.client_id)
        judged = not fields.is_replayed(body)
        stored = self._appender.append(to, sender, payload.client_id, ts, payload.json, raw, judged=judged)
        if payload.ack and number(sender) is not None:
            stored.add_done_callback(partial(self._acknowledge, sender, payload.client_id))
        if time.time() * 1000 - ts > NEARLY_LATE_MS:
            stored.add_done_callback(partial(self._late, to, sender, ts))
        return stored

    def _judge(self, named: Topic | None, sender: str, client_id: str) -> Address:
        """Returns the address, if the sender may write to it. Raises Refused."""
        if isinstance(named, Inbox | Group):
            if number(sender) is None:
                raise Refused("not_a_user", client_id)
            return named
        if isinstance(named, Global | Tag):
            if sender != SERVICE and sender not in self._operators:
                raise Refused("not_an_operator", client_id)
            return named
        raise Refused("unknown_topic", client_id)

    def _acknowledge(self, sender: str, client_id: str, stored: asyncio.Future[Stored]) -> None:
        if not stored.cancelled() and stored.exception() is None:
            self._acknowledgements.stored(sender, client_id, stored.result().mid)

    def _late(self, to: Address, sender: str, ts: int, stored: asyncio.Future[Stored]) -> None:
        if not stored.cancelled() and stored.exception() is None:
            self._sync.stored(to, sender, ts)


def _is_told_live(raw: bytes) -> bool:
    return (parse_payload(raw) or {}).get("type") in _TOLD_LIVE
