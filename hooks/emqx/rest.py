"""The calls of EMQX's REST API that the service makes."""

from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import orjson


class Publish(NamedTuple):
    """One message to publish."""

    topic: str
    payload: bytes
    qos: int = 1


class BrokerAway(Exception):
    """EMQX's REST API does not answer, or answers that it cannot now: try again."""


class BrokerRefused(Exception):
    """EMQX's REST API will never take this request (a wrong key, a bad topic)."""


class Rest:
    """One session to the REST API, with key and secret."""

    def __init__(self, url: str, key: str, secret: str) -> None:
        self._base = f"{url}/api/v5"
        basic = b64encode(f"{key}:{secret}".encode()).decode()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=10, connect=3),
            headers={"Authorization": f"Basic {basic}", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        await self._session.close()

    async def publish(self, messages: Sequence[Publish]) -> None:
        """Publishes in order. Nobody subscribed is no error. Raises BrokerAway, BrokerRefused."""
        body = orjson.dumps(
            [
                {
                    "topic": message.topic,
                    "qos": message.qos,
                    "payload": message.payload.decode(),
                    "retain": False,
                }
                for message in messages
            ]
        )
        try:
            async with self._session.post(f"{self._base}/publish/bulk", data=body) as answer:
                if answer.status in (200, 202):
                    return
                reason = f"{answer.status}: {(await answer.text())[:200]}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BrokerAway(str(error) or type(error).__name__) from error
        if answer.status in (408, 429) or answer.status >= 500:
            raise BrokerAway(reason)
        raise BrokerRefused(reason)
