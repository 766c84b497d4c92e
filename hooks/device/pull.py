"""The pull endpoint as a client sees it: one page at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import orjson

from hooks.device.errors import PullRefused, Unauthorized
from hooks.device.events import Message, pulled
from hooks.device.state import Position

PAGE = 200
"""Messages asked for at a time."""


class PullAway(Exception):
    """The service does not answer now. retry_after: seconds it asked for, 0 where it said nothing."""

    def __init__(self, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Page:
    """One answer. position: what to ask with next time; key: the service's secret with this user."""

    messages: list[Message]
    position: Position
    more: bool
    truncated: bool
    key: str


class Puller:
    def __init__(self, session: aiohttp.ClientSession, url: str, token: Callable[[], str]) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/pull"
        self._token = token

    async def page(self, position: Position) -> Page:
        """What comes after `position`. Raises PullAway, Unauthorized, PullRefused."""
        arguments = {"last_id": str(position.cursor), "limit": str(PAGE)}
        if position.epoch:
            arguments["epoch"] = position.epoch
        try:
            async with self._session.get(
                self._url,
                params=arguments,
                headers={"Authorization": f"Bearer {self._token()}"},
                timeout=aiohttp.ClientTimeout(total=30),
            ) as response:
                content = await response.read()
                status, retry_after = response.status, response.headers.get("Retry-After", "0")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PullAway(f"{type(error).__name__}: {error}") from error
        if status == 200:
            return _page(content)
        reason = f"{self._url} answered {status}: {content[:300].decode(errors='replace')}"
        if status in (401, 403):
            raise Unauthorized(reason)
        if status == 429 or status >= 500:
            raise PullAway(reason, float(retry_after) if retry_after.isdecimal() else 0)
        raise PullRefused(reason)


def _page(content: bytes) -> Page:
    answer = orjson.loads(content)
    return Page(
        messages=[pulled(entry) for entry in answer["messages"]],
        position=Position(answer["last_id"], answer["epoch"]),
        more=answer["more"],
        truncated=answer["truncated"],
        key=answer["key"],
    )
