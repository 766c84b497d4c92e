"""The pull endpoint as a client sees it: one page at a time."""

import asyncio
from dataclasses import dataclass

import aiohttp
import orjson

from emqx_im_client.errors import PullRefused, Unauthorized
from emqx_im_client.events import Message, pulled
from emqx_im_client.login import Login, NoToken
from emqx_im_client.state import Position

PAGE = 200
"""Messages asked for at a time, where the way carries them. Half as many after each page that was cut."""

SILENCE = 30.0
"""Seconds without a byte, or for a connection, until a page is given up. A page itself may take any time."""

MAX_RETRY_AFTER = 300.0
"""Seconds that the service may ask for; what claims to be the service may ask for more."""

_MAX_BYTES = 64 * 1024 * 1024
"""No answer of the service is nearly as long; what another sends in its place must not fill the memory."""


class PullFailed(Exception):
    """There is no page now. retry_after: seconds to wait at least; refused: the token is not taken."""

    def __init__(self, reason: str, retry_after: float = 0, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Page:
    """One answer.

    position: what to ask with next time; key: the service's secret with this user; writes_wait: the service stores
    nothing now, or did not lately, as it has no room.
    """

    messages: list[Message]
    position: Position
    more: bool
    truncated: bool
    key: str
    writes_wait: bool


class Puller:
    def __init__(self, session: aiohttp.ClientSession, url: str, login: Login) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/pull"
        self._login = login
        self._limit = PAGE

    async def page(self, position: Position) -> Page:
        """Asks for what comes after `position`.

        Raises PullFailed for whatever may pass by itself, Unauthorized and PullRefused for what cannot.
        """
        try:
            status, headers, content = await self._ask(position)
        except NoToken as error:
            raise PullFailed(str(error)) from error
        except asyncio.CancelledError:
            self._shrink()
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if not isinstance(error, aiohttp.ClientConnectorError):
                self._shrink()
            raise PullFailed(f"{self._url}: {type(error).__name__}: {error}") from error
        if status == 200:
            page = self._parsed(content)
            self._limit = min(PAGE, 2 * self._limit)
            return page
        raise self._failure(status, headers, content)

    def _shrink(self) -> None:
        """Smaller pages get through where large ones are cut, and what came of them is not asked for again."""
        self._limit = max(1, self._limit // 2)

    async def _ask(self, position: Position) -> tuple[int, dict[str, str], bytes]:
        """Returns status, headers and body. Raises ClientError, OSError, ValueError, NoToken."""
        arguments = {"last_id": str(position.cursor), "limit": str(self._limit)}
        if position.epoch:
            arguments["epoch"] = position.epoch
        content = bytearray()
        async with self._session.get(
            self._url,
            params=arguments,
            headers={"Authorization": f"Bearer {self._login.token()}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE),
            # The service does not redirect, and the token is not for others.
            allow_redirects=False,
        ) as response:
            async for part in response.content.iter_any():
                content += part
                if len(content) > _MAX_BYTES:
                    raise aiohttp.ClientPayloadError(f"the answer is over {_MAX_BYTES} bytes")
            return response.status, {name.lower(): value for name, value in response.headers.items()}, bytes(content)

    def _failure(self, status: int, headers: dict[str, str], content: bytes) -> Exception:
        """Only the service itself, known by its error codes, can say that asking again is of no use."""
        code = _error_code(content)
        reason = f"{self._url} answered {status}: {content[:300].decode(errors='replace')}"
        if (status, code) == (403, "not_a_uid"):
            return Unauthorized(reason)
        if (status, code) == (400, "bad_argument"):
            return PullRefused(reason)
        retry_after = headers.get("retry-after", "")
        seconds = min(float(retry_after), MAX_RETRY_AFTER) if retry_after.isdecimal() else 0.0
        return PullFailed(reason, seconds, refused=status in (401, 403))

    def _parsed(self, content: bytes) -> Page:
        """Raises PullFailed for what no service of ours says."""
        try:
            return _page(orjson.loads(content))
        except (ValueError, KeyError, TypeError) as error:
            start = content[:100].decode(errors="replace")
            raise PullFailed(f"{self._url} answered what is not a page: {start}") from error


def _page(answer: dict[str, object]) -> Page:
    """Raises KeyError, TypeError, ValueError."""
    last_id, epoch, messages, key = answer["last_id"], answer["epoch"], answer["messages"], answer["key"]
    if not (type(last_id) is int and isinstance(epoch, str) and isinstance(messages, list) and isinstance(key, str)):
        raise TypeError("not a page")
    return Page(
        messages=[pulled(entry) for entry in messages],
        position=Position(last_id, epoch),
        more=answer["more"] is True,
        truncated=answer["truncated"] is True,
        key=key,
        writes_wait=answer.get("writes_wait") is True,
    )


def _error_code(content: bytes) -> str | None:
    """Returns the code of the service's error; None where it is not the service that answers."""
    try:
        code = orjson.loads(content)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None
