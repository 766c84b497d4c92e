"""Bearer tokens: the fixed ones of EMQX and operators, and the users' JWTs."""

import hmac
import re
import time
from collections import OrderedDict
from typing import NamedTuple

from hooks.errors import Problem
from hooks.metrics import Metrics
from hooks.tokens import jwts
from hooks.tokens.jwks import JwksKeys, PublishedKey
from hooks.tokens.jwts import BadToken, Jwt
from store.addresses import number
from store.workers import Worker

_BEARER = re.compile(r"bearer +(?=[^ ])", re.IGNORECASE | re.ASCII)
_REMEMBERED = 100_000
_REMEMBERED_CHARACTERS = 64 * 1024 * 1024


def bearer(authorization: str) -> str | None:
    """Returns the token of an `Authorization` header; None if it carries none."""
    scheme = _BEARER.match(authorization)
    return authorization[scheme.end() :] if scheme is not None else None


class FixedTokens:
    """Tokens that are compared as they are."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        self._accepted = [token.encode() for token in tokens]

    def accept(self, authorization: str) -> bool:
        """Returns whether the `Authorization` header carries one of them."""
        token = bearer(authorization)
        if token is None:
            return False
        given = token.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(given, accepted) for accepted in self._accepted)


def receiver_key(secret: str, uid: int | str) -> str:
    """Returns what marks a live control message as genuine for this user."""
    return hmac.digest(secret.encode(), str(uid).encode(), "sha256").hex()[:32]


class _Verified(NamedTuple):
    """key: the published one that signed the token; None for the secret."""

    uid: int
    expires: float
    key: PublishedKey | None


class UserTokens:
    """Verifies users' tokens, and remembers a verified one until it expires or its key is withdrawn."""

    def __init__(
        self, secret: str | None, jwks_url: str | None, metrics: Metrics, *, jwks_seconds: float = 300
    ) -> None:
        self._secret = secret.encode() if secret is not None else None
        self._jwks = JwksKeys(jwks_url, jwks_seconds, metrics) if jwks_url else None
        self._verified: OrderedDict[str, _Verified] = OrderedDict()
        self._characters = 0

    async def run(self, worker: Worker) -> None:
        """Keeps the provider's keys as published; without a provider there is nothing to do."""
        if self._jwks is not None:
            await self._jwks.run(worker)

    async def uid(self, authorization: str) -> int:
        """Returns the user of the `Authorization` header. Raises Problem `unauthorized`, `not_a_uid`, `failed`."""
        known = self._verified.get(authorization)
        if known is not None and known.expires > time.time() and not (known.key and known.key.withdrawn):
            return known.uid
        token = bearer(authorization)
        if token is None:
            raise Problem("unauthorized", "no bearer token")
        try:
            verified = await self._verify(jwts.read(token))
        except BadToken as error:
            raise Problem("unauthorized", str(error)) from None
        self._remember(authorization, verified)
        return verified.uid

    async def _verify(self, token: Jwt) -> _Verified:
        """Raises Problem, BadToken."""
        key = await self._key(token)
        claims = jwts.claims(token, time.time())
        if claims.exp is None or claims.sub is None:
            raise BadToken("the token has no `exp`" if claims.exp is None else "the token has no `sub`")
        if not isinstance(claims.sub, str):
            raise BadToken("`sub` is not a string")
        uid = number(claims.sub)
        if uid is None:
            raise Problem("not_a_uid")
        return _Verified(uid, claims.exp, key)

    async def _key(self, token: Jwt) -> PublishedKey | None:
        """Returns the published key that signed the token; None: the secret did. Raises Problem, BadToken."""
        if jwts.is_hmac(token) and self._secret is not None:
            if not jwts.signed_with(self._secret, token):
                raise BadToken("the secret did not sign this token")
            return None
        if jwts.is_hmac(token) or self._jwks is None:
            raise BadToken("tokens of this algorithm are not accepted")
        return await self._jwks.key(token)

    def _remember(self, authorization: str, verified: _Verified) -> None:
        if authorization not in self._verified:
            self._characters += len(authorization)
        self._verified[authorization] = verified
        while len(self._verified) > _REMEMBERED or self._characters > _REMEMBERED_CHARACTERS:
            oldest, _ = self._verified.popitem(last=False)
            self._characters -= len(oldest)
