"""The operator's back end: takes batches of events, signed as Standard Webhooks say."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import aiohttp
from standardwebhooks.webhooks import Webhook

from hooks import __version__

_SECONDS, _CONNECT_SECONDS = 30.0, 5.0


class ReceiverAway(Exception):
    """The back end did not take a batch: it is sent again. reason: for metrics."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ReceiverGone(Exception):
    """The back end answered 410: it wants no more events."""


def digest_of(url: str) -> str:
    """Returns what names a back end where its address, which may have a password, is not to be read."""
    return blake2b(url.encode(), digest_size=12).hexdigest()


class Receiver:
    def __init__(self, url: str, secret: str, *, seconds: float = _SECONDS) -> None:
        """seconds: in which it has to answer."""
        self._url = url
        self._seconds = seconds
        self._webhook = Webhook(secret)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds, connect=_CONNECT_SECONDS))
        self.digest = digest_of(url)

    async def close(self) -> None:
        await self._session.close()

    async def deliver(self, events: Sequence[bytes]) -> None:
        """Returns once the back end has taken the events, each of which is JSON. Raises ReceiverAway, ReceiverGone.

        The same events have the same `webhook-id` when they are sent again.
        """
        body = b'{"events":[%b]}' % b",".join(events)
        name, now = blake2b(body, digest_size=16).hexdigest(), datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"emqx-im/{__version__}",
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(name, now, body.decode()),
        }
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except TimeoutError:
            raise ReceiverAway("timeout", f"no answer within {self._seconds:g} s") from None
        except aiohttp.ClientError as error:
            # Its text may have the address, and so a password.
            raise ReceiverAway("connection", f"no connection, or it broke: {type(error).__name__}") from None
        if status == 410:
            raise ReceiverGone
        if not 200 <= status < 300:
            raise ReceiverAway(str(status), f"answers {status}")
