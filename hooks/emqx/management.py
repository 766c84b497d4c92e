"""Calls EMQX's REST API as an operator does: reads and writes configuration, and what the broker reports of
itself."""

import time
from base64 import b64encode
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from hooks.emqx.rest import BrokerAway, BrokerRefused


class Management:
    """One session with key and secret. Paths are those below `/api/v5`.

    offset: by how many seconds EMQX's clock is ahead of ours, to within one; None before it has answered.
    """

    def __init__(self, url: str, key: str, secret: str) -> None:
        self.url = url
        self.offset: float | None = None
        basic = b64encode(f"{key}:{secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}", "Accept": "application/json"}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30, connect=5), headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """Returns the answer's JSON; None if there is no such thing. Raises BrokerAway, BrokerRefused."""
        return await self._ask("GET", path, None, missing_ok=True)

    async def post(self, path: str, body: Any) -> Any:
        """Raises BrokerAway, BrokerRefused."""
        return await self._ask("POST", path, body)

    async def put(self, path: str, body: Any) -> Any:
        """Raises BrokerAway, BrokerRefused."""
        return await self._ask("PUT", path, body)

    async def delete(self, path: str) -> None:
        """Deletes something; one that is gone already is fine. Raises BrokerAway, BrokerRefused."""
        await self._ask("DELETE", path, None, missing_ok=True)

    async def _ask(self, method: str, path: str, body: Any, *, missing_ok: bool = False) -> Any:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            async with self._session.request(method, f"{self.url}/api/v5{path}", data=data, headers=headers) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BrokerAway(f"{self.url}: {error or type(error).__name__}") from error
        if date := answer.headers.get("Date"):
            # Whole seconds, cut off.
            self.offset = parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
        if 200 <= answer.status < 300:
            return _json(text, f"{method} {path}") if text else None
        if answer.status == 404 and missing_ok:
            return None
        said = f"{method} {path}: {answer.status}: {text.decode(errors='replace')[:500]}"
        if answer.status in (408, 429) or answer.status >= 502:
            raise BrokerAway(said)
        raise BrokerRefused(said)


def _json(text: bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BrokerRefused(f"{what}: the answer is not JSON; is this EMQX's REST API?") from error
