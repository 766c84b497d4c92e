"""All that is used of aiohttp beyond its documentation. pyproject.toml therefore keeps aiohttp's minor version, and
`tests/unit/test_private_api.py` fails if another version looks different."""

import asyncio
from collections import deque
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo


class AiohttpHandler(web.RequestHandler):
    """A connection of aiohttp's, with what it has read."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def unanswered(self) -> deque[tuple[RawRequestMessage | Any, StreamReader]]:
        """Returns heads that were read and have not been begun yet, with their bodies; for a malformed one, its
        error."""
        return self._messages

    @property
    def read_count(self) -> int:
        """Counts the heads that were read, the malformed ones among them."""
        return self._request_count

    @property
    def is_reading_paused(self) -> bool:
        return self._reading_paused

    def answer_error(self, status: int, error: HttpProcessingError) -> None:
        """Has aiohttp answer an error, after what it is answering, as if it had found it itself."""
        self._messages.append((_ErrInfo(status=status, exc=error, message=""), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
