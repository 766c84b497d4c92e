"""Handles `/hooks/will`: the broker published a device's will, so the device is gone."""

from hooks.webhook.body import Body, moment, text, username
from store.addresses import WillTopic, number, parse
from store.presence.presence import Presence, device_at


class WillHook:
    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    async def __call__(self, body: Body) -> None:
        """Raises BadBody, StoreError."""
        topic, clientid, received_at = (
            text(body, "topic"),
            text(body, "clientid"),
            moment(body, "publish_received_at"),
        )
        name = username(body)
        uid = number(name) if name is not None else None
        if uid is not None and parse(topic) == WillTopic(uid):
            await self._presence.died(device_at(text(body, "node"), uid, clientid, received_at))
