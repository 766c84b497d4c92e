"""Who a client is: a JWT in the MQTT password, as EMQX's JWT authentication is set up for the service."""

import time

from hooks import jwts
from hooks.embedded.packets import BAD_USERNAME_PASSWORD, NOT_AUTHORIZED, Refused


class Login:
    """Checks tokens signed with the secret, whose `sub` is the username; `exp` is held to if there is one."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def check(self, username: str | None, password: str | None) -> float | None:
        """When the login expires, in seconds since the epoch, or None. Raises Refused."""
        if not username or not password:
            raise Refused(NOT_AUTHORIZED, "not_authorized")
        try:
            token = jwts.read(password)
            if not jwts.signed_with(self._secret, token):
                raise jwts.BadToken("the secret did not sign this token")
            claims = jwts.claims(token, time.time())
        except jwts.BadToken:
            raise Refused(BAD_USERNAME_PASSWORD, "bad_username_or_password") from None
        if claims.sub != username:
            raise Refused(BAD_USERNAME_PASSWORD, "bad_username_or_password")
        return claims.exp
