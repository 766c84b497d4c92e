"""Links that log an operator in once: `emqx-im dev` prints one, as only its user sees that."""

import secrets
from hashlib import sha256

from store.redis import keys
from store.redis.client import RedisClient

_SECONDS = 3600


class LoginLinks:
    """Its calls raise StoreAway."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def make(self) -> str:
        """Returns a code that is accepted once, within an hour."""
        code = secrets.token_urlsafe(24)
        await self._redis.set(_key(code), b"1", ex=_SECONDS)
        return code

    async def use(self, code: str) -> bool:
        """Returns whether the code was good until now."""
        return bool(await self._redis.delete(_key(code)))


def _key(code: str) -> bytes:
    return keys.login_link(sha256(code.encode()).hexdigest())
