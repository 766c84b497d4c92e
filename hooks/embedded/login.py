"""Who a client is: a JWT in the MQTT password, as EMQX's JWT authentication is set up for the service."""

import jwt

from hooks.embedded.packets import BAD_USERNAME_PASSWORD, NOT_AUTHORIZED, Refused

_END_OF_TIME = 2**40


class Login:
    """Checks HS256 tokens whose `sub` is the username; `exp` is held to if there is one."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def check(self, username: str | None, password: str | None) -> float | None:
        """When the login expires, in seconds since the epoch, or None. Raises Refused."""
        if not username or not password:
            raise Refused(NOT_AUTHORIZED, "not_authorized")
        try:
            claims = jwt.decode(password, self._secret, algorithms=["HS256"], options={"verify_aud": False})
        except (jwt.InvalidTokenError, OverflowError):
            raise Refused(BAD_USERNAME_PASSWORD, "bad_username_or_password") from None
        if claims.get("sub") != username:
            raise Refused(BAD_USERNAME_PASSWORD, "bad_username_or_password")
        return float(min(int(claims["exp"]), _END_OF_TIME)) if "exp" in claims else None
