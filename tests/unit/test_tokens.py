"""Tokens: the fixed ones, and users' JWTs by secret or by published keys."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hooks import tokens
from hooks.errors import Problem
from hooks.tokens import FixedTokens, UserTokens, receiver_key

SECRET = "a secret of the tests that is long enough for the longest digest that signs"
OTHER_SECRET = "another secret that is long enough for it"


def claims(**changed: Any) -> dict[str, Any]:
    return {"sub": "1001", "exp": int(time.time()) + 600, **changed}


def bearer(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changed: Any) -> str:
    """An `Authorization` header; a claim given as None is left out."""
    named = {name: value for name, value in claims(**changed).items() if value is not None}
    return "Bearer " + jwt.encode(named, key, algorithm, headers={"kid": kid} if kid else None)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


async def code_of(user_tokens: UserTokens, authorization: str) -> str:
    with pytest.raises(Problem) as refused:
        await user_tokens.uid(authorization)
    return refused.value.code


# Fixed tokens


@pytest.mark.parametrize("authorization", ["Bearer one", "Bearer two", "Bearer dr\u00e9i"])
def test_any_of_the_fixed_tokens_is_accepted(authorization: str) -> None:
    assert FixedTokens(("one", "two", "dr\u00e9i")).accept(authorization)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "one", "Bearer on", "Bearer onee", "Bearer one ", "Basic one", "Bearer \udcff"],
)
def test_nothing_else_is_accepted(authorization: str) -> None:
    assert not FixedTokens(("one", "two")).accept(authorization)


def test_a_receivers_key_is_his_alone() -> None:
    assert receiver_key(SECRET, 1001) == receiver_key(SECRET, "1001")
    assert len({receiver_key(SECRET, 1001), receiver_key(SECRET, 1002), receiver_key(OTHER_SECRET, 1001)}) == 3


# Tokens signed with the secret


@pytest.fixture
def by_secret() -> UserTokens:
    return UserTokens(SECRET, None)


async def test_a_token_names_its_user(by_secret: UserTokens) -> None:
    assert await by_secret.uid(bearer()) == 1001
    assert await by_secret.uid(bearer(sub=str(2**53 - 1), aud="somebody")) == 2**53 - 1


@pytest.mark.parametrize("sub", ["0", "01", "ops", "", "+", str(2**53)])
async def test_a_subject_that_is_no_uid_is_told_so(by_secret: UserTokens, sub: str) -> None:
    assert await code_of(by_secret, bearer(sub=sub)) == "not_a_uid"


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None},
        {"sub": None},
        {"sub": 1001},
        {"exp": "soon"},
        {"exp": [1]},
        {"exp": float("inf")},
        {"exp": 1},
        {"nbf": 2**40},
        {"iat": "x"},
    ],
    ids=str,
)
async def test_missing_and_bad_claims_are_refused(by_secret: UserTokens, changed: dict[str, Any]) -> None:
    named = {name: value for name, value in claims(**changed).items() if value is not None}
    token = jwt.api_jws.encode(json.dumps(named).encode(), SECRET, "HS256")
    assert await code_of(by_secret, f"Bearer {token}") == "unauthorized"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic MTAwMTp4",
        bearer().removeprefix("Bearer "),
        bearer(OTHER_SECRET),
        bearer(algorithm="HS384"),
        bearer("", algorithm="none"),
        bearer() + "x",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer \udcff\udcfe",
        "Bearer \u00e9",
        f"Bearer {encoded(b'[' * 6000)}.e30.x",
        f"Bearer {encoded(b'[]')}.e30.AA",
        f"Bearer {encoded(bytes([255]))}.e30.AA",
        f"Bearer {encoded(b'{}')}.e30.AA",
        "Bearer " + encoded(b'{"alg":["HS256"]}') + ".e30.AAAA",
        "Bearer " + encoded(b'{"alg":"HS256","kid":5}') + ".e30.AAAA",
    ],
    ids=lambda authorization: authorization[:24],  # the same in every process, whenever it signed its tokens
)
async def test_what_the_secret_did_not_sign_is_refused(by_secret: UserTokens, authorization: str) -> None:
    assert await code_of(by_secret, authorization) == "unauthorized"


async def test_a_token_is_remembered_only_until_it_expires(by_secret: UserTokens) -> None:
    expires = int(time.time()) + 2
    token = bearer(exp=expires)
    while time.time() < expires - 0.2:
        assert await by_secret.uid(token) == 1001
        await asyncio.sleep(0.1)
    async with asyncio.timeout(3):
        await expired(by_secret, token)
    assert await code_of(by_secret, token) == "unauthorized"


async def expired(user_tokens: UserTokens, token: str) -> None:
    with contextlib.suppress(Problem):
        while await user_tokens.uid(token):  # noqa: ASYNC110  (the clock itself is waited for)
            await asyncio.sleep(0.02)


async def test_the_oldest_remembered_tokens_go(by_secret: UserTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CACHED", 2)
    for uid in ("1", "2", "3", "1"):
        assert await by_secret.uid(bearer(sub=uid)) == int(uid)
    assert len(by_secret._verified) == 2


# Tokens signed with a provider's keys


class Provider:
    """Publishes keys; counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.away = False
        self.body: Any = None
        self.asked = 0
        self.url = ""

    def add(self, kid: str, algorithm: str) -> None:
        self.keys[kid] = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.away:
            return web.Response(status=503)
        if self.body is not None:
            return web.json_response(self.body)
        published = []
        for kid, key in self.keys.items():
            algorithm: Any = (
                jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            )
            published.append({**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"})
        return web.json_response({"keys": published})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    published = Provider()
    application = web.Application()
    application.router.add_get("/keys", published.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    published.url = f"http://127.0.0.1:{site.port}/keys"
    yield published
    await runner.cleanup()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the process's monotonic clock is ahead, for waits that are measured in it."""
    ahead = [0.0]
    monotonic = time.monotonic
    monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: monotonic() + ahead[0], time=time.time))
    return ahead


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_providers_key_verifies(provider: Provider, algorithm: str) -> None:
    provider.add("a", algorithm)
    by_keys = UserTokens(None, provider.url)
    assert await by_keys.uid(bearer(provider.keys["a"], algorithm, "a")) == 1001
    assert await by_keys.uid(bearer(provider.keys["a"], algorithm, "a", sub="1002")) == 1002
    assert provider.asked == 1


async def test_a_token_without_key_id_is_verified_by_the_only_key(provider: Provider) -> None:
    provider.add("a", "ES256")
    assert await UserTokens(None, provider.url).uid(bearer(provider.keys["a"], "ES256")) == 1001


async def test_what_the_providers_keys_did_not_sign_is_refused(provider: Provider) -> None:
    provider.add("a", "RS256")
    provider.add("b", "ES256")
    by_keys = UserTokens(None, provider.url)
    public = provider.keys["a"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    confused = encoded(b'{"alg":"HS256","kid":"a"}') + "." + encoded(b'{"sub":"1"}')
    forged = jwt.api_jws.get_algorithm_by_name("HS256").sign(confused.encode(), pem)
    for authorization in (
        bearer(provider.keys["b"], "ES256", "a"),
        bearer(provider.keys["b"], "ES256", "unknown"),
        bearer(provider.keys["b"], "ES256"),
        bearer(SECRET, "HS256", "a"),
        bearer("", "none", "a"),
        f"Bearer {confused}.{encoded(forged)}",
    ):
        assert await code_of(by_keys, authorization) == "unauthorized"


async def test_secret_and_provider_serve_side_by_side(provider: Provider) -> None:
    provider.add("a", "ES256")
    both = UserTokens(SECRET, provider.url)
    assert await both.uid(bearer()) == 1001
    assert await both.uid(bearer(provider.keys["a"], "ES256", "a")) == 1001
    assert await code_of(both, bearer(OTHER_SECRET)) == "unauthorized"


async def test_a_new_key_is_found_when_a_token_names_it(provider: Provider, clock: list[float]) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url)
    await by_keys.uid(bearer(provider.keys["a"], "ES256", "a"))
    old = provider.keys.pop("a")
    provider.add("b", "ES256")
    assert await code_of(by_keys, bearer(provider.keys["b"], "ES256", "b")) == "unauthorized"
    assert provider.asked == 1, "an unknown key id is no reason to ask at once again"
    clock[0] += 11
    assert await by_keys.uid(bearer(provider.keys["b"], "ES256", "b")) == 1001
    assert await code_of(by_keys, bearer(old, "ES256", "a", sub="7")) == "unauthorized"
    assert provider.asked == 2


async def test_withdrawn_keys_go_after_a_while(provider: Provider, clock: list[float]) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url)
    await by_keys.uid(bearer(provider.keys["a"], "ES256", "a"))
    withdrawn = provider.keys.pop("a")
    provider.add("b", "ES256")
    clock[0] += 301
    assert await code_of(by_keys, bearer(withdrawn, "ES256", "a", sub="7")) == "unauthorized"


async def test_known_keys_go_on_while_the_provider_is_away(provider: Provider, clock: list[float]) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url)
    await by_keys.uid(bearer(provider.keys["a"], "ES256", "a"))
    provider.away = True
    clock[0] += 301
    assert await by_keys.uid(bearer(provider.keys["a"], "ES256", "a", sub="1002")) == 1002
    assert provider.asked == 2


@pytest.mark.parametrize("body", [None, [], {}, {"keys": []}, {"keys": 5}, {"keys": [{"kty": "x"}]}, "keys"])
async def test_without_any_keys_it_is_asked_again_later(provider: Provider, clock: list[float], body: Any) -> None:
    provider.away, provider.body = body is None, body
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url)
    token = bearer(provider.keys["a"], "ES256", "a")
    assert await code_of(by_keys, token) == "failed"
    assert await code_of(by_keys, token) == "failed"
    assert provider.asked == 1, "a provider that is away is not asked for every token"
    provider.away, provider.body = False, None
    clock[0] += 2
    assert await by_keys.uid(token) == 1001


async def test_an_address_where_nobody_listens_is_a_provider_away(provider: Provider) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, "http://127.0.0.1:9/keys")
    with pytest.raises(Problem, match="IM_JWT_JWKS_URL") as refused:
        await by_keys.uid(bearer(provider.keys["a"], "ES256", "a"))
    assert refused.value.status == 503
