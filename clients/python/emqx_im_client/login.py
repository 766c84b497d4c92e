"""The user's token, new from the application each time it is needed."""

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable

import orjson

from emqx_im_client.errors import Unauthorized

_TOKEN = re.compile(r"[!-~]+")


class NoToken(Exception):
    """The application has no token to give now."""


class Login:
    """token: called for a JWT at each connection and pull, so that it may be renewed."""

    def __init__(self, uid: int, token: Callable[[], str]) -> None:
        self._uid = uid
        self._token = token

    def token(self) -> str:
        """Returns a token.

        Raises NoToken, and Unauthorized for another user's token: with that the pull would answer, and give another
        user's messages.
        """
        try:
            token = self._token().strip()
        except Exception as error:
            raise NoToken(f"the application gives no token: {type(error).__name__}: {error}") from error
        if not _TOKEN.fullmatch(token):
            raise NoToken("what the application gives is not a token")
        subject = _subject(token)
        if subject is not None and subject != str(self._uid):
            raise Unauthorized(f"the token is not that of user {self._uid}, but of {subject!r}")
        return token


def _subject(token: str) -> str | None:
    """Returns the `sub` of a JWT; None if there is none to be read, which is for others to judge."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return None if subject is None else str(subject)
