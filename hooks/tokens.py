"""Bearer tokens: the fixed ones of EMQX and operators, and the users' JWTs."""

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from typing import Any

import aiohttp
import jwt
import structlog

from hooks.errors import Problem
from hooks.topics import number

_SCHEME = "Bearer "
_CACHED = 100_000
_JWKS_SECONDS = 300
_JWKS_RETRY_SECONDS = 10
"""The least time between two requests to a provider whose keys are known, and …"""
_JWKS_FIRST_RETRY_SECONDS = 1
"""… to one whose keys are not."""
_JWKS_TIMEOUT_SECONDS = 3
_ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

log = structlog.get_logger(__name__)


class FixedTokens:
    """Tokens that are compared as they are."""

    def __init__(self, tokens: tuple[str, ...]) -> None:
        self._accepted = [_SCHEME.encode() + token.encode() for token in tokens]

    def accept(self, authorization: str) -> bool:
        """Whether the `Authorization` header carries one of them."""
        given = authorization.encode("utf-8", "surrogateescape")
        return any(hmac.compare_digest(given, accepted) for accepted in self._accepted)


def receiver_key(secret: str, uid: int | str) -> str:
    """What marks a live control message as genuine for this user."""
    return hmac.digest(secret.encode(), str(uid).encode(), "sha256").hex()[:32]


class JwksKeys:
    """The public keys of an identity provider: fetched when needed, again when a token names an unknown one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: list[jwt.PyJWK] = []
        self._asked_at = -math.inf
        self._lock = asyncio.Lock()

    async def key(self, token: str) -> jwt.PyJWK:
        """Raises Problem: `unauthorized` for a token no key fits, `failed` while no keys can be had."""
        kid = jwt.get_unverified_header(token).get("kid")
        found = self._find(kid)
        if found is None or self._age() > _JWKS_SECONDS:
            async with self._lock:
                if self._age() > (_JWKS_RETRY_SECONDS if self._keys else _JWKS_FIRST_RETRY_SECONDS):
                    await self._fetch()
            found = self._find(kid)
        if not self._keys:
            raise Problem("failed", "IM_JWT_JWKS_URL: no keys could be had")
        if found is None:
            raise Problem("unauthorized", "no published key fits this token")
        return found

    def _age(self) -> float:
        return time.monotonic() - self._asked_at

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == kid), None)

    async def _fetch(self) -> None:
        """The keys as they are published now; what was known stays while the provider is away."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_JWKS_TIMEOUT_SECONDS)) as session,
                session.get(self._url) as answer,
            ):
                answer.raise_for_status()
                published = await answer.json(content_type=None)
            self._keys = jwt.PyJWKSet(published["keys"]).keys
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError, jwt.PyJWTError) as error:
            log.warning("jwks_away", setting="IM_JWT_JWKS_URL", error=str(error) or type(error).__name__)
        self._asked_at = time.monotonic()


class UserTokens:
    """Verifies users' tokens; a verified one is remembered until it expires."""

    def __init__(self, secret: str | None, jwks_url: str | None) -> None:
        self._secret = secret
        self._jwks = JwksKeys(jwks_url) if jwks_url else None
        self._verified: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def uid(self, authorization: str) -> int:
        """The user of the `Authorization` header. Raises Problem `unauthorized`, `not_a_uid`, `failed`."""
        if not authorization.startswith(_SCHEME):
            raise Problem("unauthorized", "no bearer token")
        token = authorization[len(_SCHEME) :]
        known = self._verified.get(token)
        if known is not None and known[1] > time.time():
            return known[0]
        claims = await self._claims(token)
        uid = number(claims["sub"])
        if uid is None:
            raise Problem("not_a_uid")
        self._verified[token] = (uid, float(claims["exp"]))
        if len(self._verified) > _CACHED:
            self._verified.popitem(last=False)
        return uid

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            key: Any = self._secret
            algorithms = ["HS256"]
            if self._jwks is not None and algorithm != "HS256":
                key, algorithms = await self._jwks.key(token), _ASYMMETRIC
            if key is None:
                raise Problem("unauthorized", f"tokens signed with {algorithm} are not accepted")
            options: Any = {"require": ["exp", "sub"], "verify_aud": False}
            return jwt.decode(token, key, algorithms=algorithms, options=options)
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            # PyJWT has no name for characters that are not UTF-8, and claims of another type.
            raise Problem("unauthorized", str(error) if isinstance(error, jwt.PyJWTError) else None) from error
