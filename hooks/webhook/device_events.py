"""Handles `/hooks/client`: devices connect, disconnect, and miss deliveries."""

from hooks.errors import BadBody
from hooks.messaging.session_ender import SessionEnder
from hooks.messaging.session_limit import TOO_MANY
from hooks.messaging.subscriptions import Subscriptions
from hooks.messaging.sync import Sync
from hooks.metrics import Metrics
from hooks.webhook.body import UNDEFINED, Body, moment, text, username
from store.addresses import Inbox, number
from store.presence.presence import Presence, device_at

_REST = "http_api"
_ANOTHER_CONNECTION_STANDS = ("takenover", "discarded")


class ClientHook:
    def __init__(
        self,
        presence: Presence,
        subscriptions: Subscriptions,
        sync: Sync,
        metrics: Metrics,
        ender: SessionEnder | None = None,
    ) -> None:
        """ender: ends surplus devices of a user; None if there is no REST API."""
        self._ender = ender
        self._presence = presence
        self._subscriptions = subscriptions
        self._sync = sync
        self._metrics = metrics

    async def __call__(self, body: Body) -> None:
        """Raises BadBody, StoreError."""
        event = text(body, "event")
        name = username(body)
        uid = number(name) if name is not None else None
        match event:
            case "client.connected":
                clientid, connected_at = text(body, "clientid"), moment(body, "connected_at")
                if uid is not None:
                    came = await self._presence.connected(device_at(text(body, "node"), uid, clientid, connected_at))
                    if self._ender is not None:
                        for _, old in came.too_many:
                            self._ender.put(str(uid), old, TOO_MANY)
                    if body.get("clean_start") is False:
                        # A kept session hears its topic at once, and EMQX reports no subscription.
                        await self._subscriptions.on_connected(uid, clientid, resumed=True)
            case "client.disconnected":
                clientid, connected_at = text(body, "clientid"), moment(body, "connected_at")
                if uid is not None:
                    stands = body.get("reason") in _ANOTHER_CONNECTION_STANDS
                    device = device_at(text(body, "node"), uid, clientid, connected_at)
                    await self._presence.disconnected(device, another_stands=stands)
            case "session.subscribed":
                if uid is not None and text(body, "topic") == Inbox(uid).topic:
                    await self._subscriptions.on_connected(uid, text(body, "clientid"), resumed=False)
            case "delivery.dropped":
                self._metrics.deliveries_dropped.labels(text(body, "reason")).inc()
                if uid is not None and not _published_over_rest(body):
                    self._sync.dropped(uid, text(body, "clientid"))
            case _:
                raise BadBody("`event` is not an event of a client")


def _published_over_rest(body: Body) -> bool:
    """Returns whether it was published over REST, as by the service: a notice of its drop would be dropped too.

    A message that trusted sending delivers has no user either, and the rule's id as clientid.
    """
    without_user = body.get("from_username", UNDEFINED) == UNDEFINED
    return without_user and body.get("from_clientid", _REST) in (_REST, UNDEFINED)
