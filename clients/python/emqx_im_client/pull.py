"""The pull endpoint as a client sees it: one page at a time."""

import asyncio
from dataclasses import dataclass
from typing import Any

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
    states: list[dict[str, Any]]
    position: Position
    more: bool
    truncated: bool
    reset: bool
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
            page = self._parsed(content, position)
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
        """Returns the error to raise.

        Only the service itself, known by its codes, can say that retrying is of no use.
        """
        code = _error_code(content)
        reason = f"{self._url} answered {status}: {content[:300].decode(errors='replace')}"
        if (status, code) == (403, "not_a_uid"):
            return Unauthorized(reason)
        if (status, code) == (400, "bad_argument"):
            return PullRefused(reason)
        retry_after = headers.get("retry-after", "")
        seconds = min(float(retry_after), MAX_RETRY_AFTER) if retry_after.isdecimal() else 0.0
        return PullFailed(reason, seconds, refused=status in (401, 403))

    def _parsed(self, content: bytes, asked: Position) -> Page:
        """Raises PullFailed for what no service of ours says."""
        start = content[:100].decode(errors="replace")
        try:
            page = page_of(orjson.loads(content))
        except (ValueError, KeyError, TypeError) as error:
            raise PullFailed(f"{self._url} answered what is not a page: {start}") from error
        if not _goes_on(page, asked):
            raise PullFailed(f"{self._url} answered a page that does not go on from the last one: {start}")
        return page


def page_of(answer: dict[str, Any]) -> Page:
    """Raises KeyError, TypeError, ValueError."""
    last_id, epoch, messages, key = answer["last_id"], answer["epoch"], answer["messages"], answer["key"]
    states = answer.get("states", [])
    lists = isinstance(messages, list) and isinstance(states, list)
    if not (type(last_id) is int and isinstance(epoch, str) and isinstance(key, str) and lists):
        raise TypeError("not a page")
    return Page(
        messages=[pulled(entry) for entry in messages],
        states=[state for state in states if is_state(state)],
        position=Position(last_id, epoch),
        more=answer["more"] is True,
        truncated=answer["truncated"] is True,
        reset=answer.get("reset") is True,
        key=key,
        writes_wait=answer.get("writes_wait") is True,
    )


def _goes_on(page: Page, asked: Position) -> bool:
    """Says whether the page is in order, and behind what was asked with: a cache may answer in the service's place."""
    same = page.position.epoch == asked.epoch and not page.reset
    place = asked.cursor if same else -1
    for message in page.messages:
        assert message.last_id is not None
        if message.last_id <= place:
            return False
        place = message.last_id
    stands_still = page.more and same and page.position.cursor == asked.cursor
    return place <= page.position.cursor and not stands_still


def is_state(state: object) -> bool:
    """Says whether it is a state that this client knows. A service of another version may have more kinds."""
    match state:
        case {"kind": "read", "topic": str(), "mid": int(), "at": int()}:
            return True
        case {"kind": "setting", "key": str(), "value": _, "at": int()}:
            return True
        case {"kind": "block", "uid": str(), "on": bool(), "at": int()}:
            return True
    return False


def _error_code(content: bytes) -> str | None:
    """Returns the code of the service's error; None if it is not the service that answers."""
    try:
        code = orjson.loads(content)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None
