"""Fetches the public keys of an identity provider again and again, as EMQX does."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import jwt
import orjson
import structlog

from hooks.errors import Problem
from hooks.metrics import Metrics
from hooks.tokens.jwts import Jwt
from store.workers import Backoff, Worker

_TIMEOUT_SECONDS = 3
_ASKED_SECONDS = 10
"""The shortest time between two fetches because of tokens that fit no key."""
_PAUSES = (1.0, 60.0)
"""Seconds before a provider that is away, or answers nonsense, is asked again: the first pause, and the longest."""
_MAX_ANSWER = 1024 * 1024
_MAX_KEYS = 32
"""Most keys that are used: each is tried on a token with an unknown `kid`."""

_ALGORITHMS = {
    "RSA": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "P-256": {"ES256"},
    "P-384": {"ES384"},
    "P-521": {"ES512"},
    "secp256k1": {"ES256K"},
    "Ed25519": {"EdDSA"},
}
"""Algorithms by the key's type, or by its curve."""

log = structlog.get_logger(__name__)


class PublishedKey:
    """A public key; `withdrawn` once the provider publishes it no more. Raises what PyJWT and cryptography raise."""

    def __init__(self, published: dict[str, Any]) -> None:
        self.withdrawn = False
        self.kid = published.get("kid")
        self._algorithms = _ALGORITHMS[published.get("crv") or published["kty"]]
        # The declared purpose of a key is ignored, as by EMQX.
        key = jwt.PyJWK({name: value for name, value in published.items() if name not in ("alg", "use")}).key
        self._key: Any = key.public_key() if hasattr(key, "public_key") else key

    def signed(self, token: Jwt) -> bool:
        if token.algorithm not in self._algorithms:
            return False
        try:
            return jwt.get_algorithm_by_name(token.algorithm).verify(token.signed, self._key, token.signature)
        except Exception:
            # Any error of a library for a key and a signature that do not fit.
            return False


class JwksKeys:
    def __init__(self, url: str, seconds: float, metrics: Metrics) -> None:
        """seconds: how often they are fetched."""
        self._url = url
        self._seconds = seconds
        self._fetches = metrics.jwks_fetches
        self._keys: dict[bytes, PublishedKey] = {}
        self._not_before = -math.inf
        self._failing = False
        self._retry = Backoff(*_PAUSES)
        self._lock = asyncio.Lock()

    async def run(self, worker: Worker) -> None:
        """Keeps the keys as they are published."""
        await worker.every(self._seconds_to_wait, self._fetch)

    async def _fetch(self) -> None:
        await self._fetch_unless(self._not_before)

    def _seconds_to_wait(self) -> float:
        return max(0.0, self._not_before - time.monotonic()) if self._failing else self._seconds

    async def key(self, token: Jwt) -> PublishedKey:
        """Returns the key that signed the token.

        Raises Problem: `unauthorized` for a token that none did, `failed` while no keys can be had.
        """
        found = self._find(token)
        if found is None and time.monotonic() >= self._not_before:
            await self._fetch_unless(self._not_before)
            found = self._find(token)
        if not self._keys:
            raise Problem("failed", "IM_JWT_JWKS_URL: no keys could be fetched")
        if found is None:
            raise Problem("unauthorized", "no published key fits this token")
        return found

    def _find(self, token: Jwt) -> PublishedKey | None:
        """Returns the key that signed the token; the one named by `kid` is tried first, but an unknown `kid` is no
        fault.
        """
        named = [key for key in self._keys.values() if key.kid == token.kid]
        others = [key for key in self._keys.values() if key.kid != token.kid]
        return next((key for key in [*named, *others] if key.signed(token)), None)

    async def _fetch_unless(self, not_before: float) -> None:
        """Fetches the keys, unless somebody else did since `not_before` was looked at."""
        async with self._lock:
            if self._not_before != not_before:
                return
            try:
                self._take(await self._published())
            except Exception as error:
                # Anything else that a provider sends counts as being away: known keys stay.
                self._failing, pause = True, self._retry.pause()
                # The error's message may contain what was sent.
                log.warning(
                    "jwks_away", setting="IM_JWT_JWKS_URL", error=type(error).__name__, retry_seconds=round(pause, 1)
                )
                self._fetches.labels("failed").inc()
            else:
                self._retry.reset()
                self._failing, pause = False, _ASKED_SECONDS
                self._fetches.labels("done").inc()
            self._not_before = time.monotonic() + pause

    async def _published(self) -> Sequence[Any]:
        """Returns what stands under `keys`. Raises what aiohttp raises, and ValueError and its like."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)) as session,
            session.get(self._url) as answer,
        ):
            answer.raise_for_status()
            raw = b""
            async for piece in answer.content.iter_chunked(65_536):
                raw += piece
                if len(raw) > _MAX_ANSWER:
                    raise ValueError("too large")
        keys = orjson.loads(raw)["keys"]
        if not isinstance(keys, list):
            raise TypeError("no list")
        return keys

    def _take(self, published: Sequence[Any]) -> None:
        """Replaces the keys by these; known keys stay the same objects.

        Raises ValueError if none can be used: all that were known stay then, unless none is published.
        """
        keys: dict[bytes, PublishedKey] = {}
        for each in published[:_MAX_KEYS]:
            try:
                name = orjson.dumps(each, option=orjson.OPT_SORT_KEYS)
                keys[name] = self._keys.get(name) or PublishedKey(each)
            except Exception as error:
                log.warning("jwks_key_unusable", setting="IM_JWT_JWKS_URL", error=type(error).__name__)
        if published and not keys:
            raise ValueError("no key can be used")
        for name, key in self._keys.items():
            key.withdrawn = name not in keys
        self._keys = keys
        if not keys:
            raise ValueError("no key is published")
