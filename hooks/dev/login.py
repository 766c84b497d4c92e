"""Authenticates clients by a JWT in the MQTT password, as EMQX's JWT authentication is set up for the service."""

import time

from hooks.dev.packets import BAD_USERNAME_PASSWORD, NOT_AUTHORIZED, ConnectRefused, Ended
from hooks.errors import Problem
from hooks.tokens import jwts
from hooks.tokens.jwks import JwksKeys
from hooks.tokens.jwts import BadToken, Claims, Jwt

_FURTHEST_SECONDS = 2**63 // 10**9
"""How far ahead EMQX can set a timer. A later expiry, such as a time in milliseconds, ends the connection."""


class EmbeddedLogin:
    """Checks tokens signed with the secret or a published key, whose `sub` is the username.

    `exp` is held to if there is one, and must be whole: EMQX cannot set a timer for a fraction.
    """

    def __init__(self, secret: str, jwks: JwksKeys | None = None) -> None:
        self._secret = secret.encode()
        self._jwks = jwks

    async def check(self, username: str | None, password: str | None) -> int | None:
        """Returns when the login expires, in seconds since the epoch, or None. Raises Refused, Ended.

        A token that EMQX cannot verify is none to it: 5. One that says something wrong is a bad password: 4.
        """
        if not username or not password:
            raise ConnectRefused(NOT_AUTHORIZED, "not_authorized")
        try:
            token = jwts.read(password)
            await self._verify(token)
        except (BadToken, Problem):
            raise ConnectRefused(NOT_AUTHORIZED, "not_authorized") from None
        claims = _claims(token)
        if claims.sub != username:
            raise ConnectRefused(BAD_USERNAME_PASSWORD, "bad_username_or_password")
        if isinstance(claims.exp, float):
            raise ConnectRefused(NOT_AUTHORIZED, "not_authorized")
        if claims.exp is not None and claims.exp - time.time() > _FURTHEST_SECONDS:
            raise Ended("internal_error")
        return claims.exp

    async def _verify(self, token: Jwt) -> None:
        """Raises BadToken, Problem."""
        if jwts.signed_with(self._secret, token):
            return
        if jwts.is_hmac(token) or self._jwks is None:
            raise BadToken("the secret did not sign this token")
        await self._jwks.key(token)


def _claims(token: Jwt) -> Claims:
    try:
        return jwts.claims(token, time.time())
    except BadToken:
        raise ConnectRefused(BAD_USERNAME_PASSWORD, "bad_username_or_password") from None
