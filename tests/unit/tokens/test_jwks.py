"""Tokens signed with a provider's keys, and providers of all kinds."""

import asyncio
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
from hypothesis import given
from hypothesis import strategies as st

from hooks.dev.login import EmbeddedLogin
from hooks.dev.packets import ConnectRefused
from hooks.errors import Problem
from hooks.tokens import jwks, jwts
from hooks.tokens.bearer import UserTokens
from hooks.tokens.jwks import JwksKeys
from store.workers import Worker
from tests.unit.tokens.jwt_samples import JSON, METRICS, OTHER_SECRET, SECRET, bearer, code_of, encoded
from tests.webserver import serving


class Provider:
    """Publishes keys; counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.away = False
        self.body: Any = None
        self.raw: bytes | None = None
        self.named = True
        self.more: dict[str, Any] = {"use": "sig"}
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
        if self.raw is not None:
            return web.Response(body=self.raw)
        if self.body is not None:
            return web.json_response(self.body)
        published = []
        for kid, key in self.keys.items():
            algorithm: Any = (
                jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            )
            named = {"kid": kid} if self.named else {}
            published.append({**algorithm.to_jwk(key.public_key(), as_dict=True), **named, **self.more})
        return web.json_response({"keys": published})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    published = Provider()
    application = web.Application()
    application.router.add_get("/keys", published.answer)
    async with serving(application) as address:
        published.url = f"{address}/keys"
        yield published


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the process's monotonic clock is ahead, for waits that are measured in it."""
    ahead = [0.0]
    monotonic = time.monotonic
    monkeypatch.setattr(jwks, "time", SimpleNamespace(monotonic=lambda: monotonic() + ahead[0]))
    return ahead


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_a_providers_key_verifies(provider: Provider, algorithm: str) -> None:
    provider.add("a", algorithm)
    by_keys = UserTokens(None, provider.url, METRICS)
    assert await by_keys.uid(bearer(provider.keys["a"], algorithm, "a")) == 1001
    assert await by_keys.uid(bearer(provider.keys["a"], algorithm, "a", sub="1002")) == 1002
    assert provider.asked == 1


async def test_a_token_without_key_id_is_verified_by_the_only_key(provider: Provider) -> None:
    provider.add("a", "ES256")
    assert await UserTokens(None, provider.url, METRICS).uid(bearer(provider.keys["a"], "ES256")) == 1001


async def test_what_the_providers_keys_did_not_sign_is_refused(provider: Provider) -> None:
    provider.add("a", "RS256")
    provider.add("b", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS)
    public = provider.keys["a"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    confused = encoded(b'{"alg":"HS256","kid":"a"}') + "." + encoded(b'{"sub":"1"}')
    forged = jwt.api_jws.get_algorithm_by_name("HS256").sign(confused.encode(), pem)
    for authorization in (
        bearer(ec.generate_private_key(ec.SECP256R1()), "ES256", "b"),
        bearer(ec.generate_private_key(ec.SECP256R1()), "ES256", "unknown"),
        bearer(ec.generate_private_key(ec.SECP256R1()), "ES256"),
        bearer(SECRET, "HS256", "a"),
        bearer("", "none", "a"),
        f"Bearer {confused}.{encoded(forged)}",
    ):
        assert await code_of(by_keys, authorization) == "unauthorized"


async def test_secret_and_provider_serve_side_by_side(provider: Provider) -> None:
    provider.add("a", "ES256")
    both = UserTokens(SECRET, provider.url, METRICS)
    assert await both.uid(bearer()) == 1001
    assert await both.uid(bearer(provider.keys["a"], "ES256", "a")) == 1001
    assert await code_of(both, bearer(OTHER_SECRET)) == "unauthorized"


async def test_a_new_key_is_found_when_a_token_names_it(provider: Provider, clock: list[float]) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS)
    await by_keys.uid(bearer(provider.keys["a"], "ES256", "a"))
    old = provider.keys.pop("a")
    provider.add("b", "ES256")
    assert await code_of(by_keys, bearer(provider.keys["b"], "ES256", "b")) == "unauthorized"
    assert provider.asked == 1, "an unknown key id is no reason to ask at once again"
    clock[0] += 11
    assert await by_keys.uid(bearer(provider.keys["b"], "ES256", "b")) == 1001
    assert await code_of(by_keys, bearer(old, "ES256", "a", sub="7")) == "unauthorized"
    assert provider.asked == 2


@pytest.mark.parametrize("more", [{}, {"use": "enc"}, {"alg": "RSA-OAEP"}, {"alg": 5, "use": []}], ids=str)
async def test_any_published_key_that_signed_a_token_verifies_it(provider: Provider, more: dict[str, Any]) -> None:
    """Whatever it is named and said to be for, as EMQX takes it."""
    for kid, algorithm in (("a", "RS256"), ("b", "ES256"), ("c", "RS256")):
        provider.add(kid, algorithm)
    provider.more = more
    for provider.named in (True, False):
        by_keys = UserTokens(None, provider.url, METRICS)
        for kid, algorithm in (("a", "PS384"), ("b", "ES256"), ("c", "RS512")):
            for named in (kid, "unknown", None):
                assert await by_keys.uid(bearer(provider.keys[kid], algorithm, named)) == 1001
    assert provider.asked == 2


@contextlib.asynccontextmanager
async def running(by_keys: UserTokens) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(by_keys.run(Worker("tokens", stop)))
    yield
    stop.set()
    await task


async def asked(provider: Provider, times: int) -> None:
    async with asyncio.timeout(10):
        while provider.asked < times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_withdrawn_keys_go_with_the_next_fetch(provider: Provider) -> None:
    provider.add("a", "ES256")
    provider.add("b", "RS256")
    by_keys = UserTokens(None, provider.url, METRICS, jwks_seconds=0.01)
    async with running(by_keys):
        old, new = bearer(provider.keys["a"], "ES256", "a"), bearer(provider.keys["b"], "RS256", "b")
        assert await by_keys.uid(old) == await by_keys.uid(new) == 1001
        provider.keys.pop("a")
        await asked(provider, provider.asked + 2)
        assert await code_of(by_keys, old) == "unauthorized", "it was member_cache, and is not good for that"
        assert await by_keys.uid(new) == 1001


async def test_keys_are_fetched_before_anybody_asks(provider: Provider) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS)
    async with running(by_keys):
        await asked(provider, 1)
        assert await by_keys.uid(bearer(provider.keys["a"], "ES256", "a")) == 1001
    assert provider.asked == 1


async def test_known_keys_go_on_while_the_provider_is_away(provider: Provider) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS, jwks_seconds=0.01)
    token = bearer(provider.keys["a"], "ES256", "a")
    async with running(by_keys):
        assert await by_keys.uid(token) == 1001
        provider.away = True
        await asked(provider, provider.asked + 2)
        assert await by_keys.uid(token) == 1001
        assert await by_keys.uid(bearer(provider.keys["a"], "ES256", "a", sub="1002")) == 1002


async def test_a_provider_in_trouble_is_asked_less_and_less_often(provider: Provider, clock: list[float]) -> None:
    provider.away = True
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS)
    token = bearer(provider.keys["a"], "ES256", "a")
    pauses = [0.0]
    for _ in range(8):
        before = provider.asked
        while provider.asked == before:
            assert await code_of(by_keys, token) == "failed"
            clock[0] += 1
            pauses[-1] += 1
        pauses.append(0.0)
    for pause, longest in zip(pauses[1:8], (1, 2, 4, 8, 16, 32, 60), strict=True):
        assert longest / 2 - 1 <= pause <= longest + 1


@pytest.mark.parametrize("body", [None, [], {}, {"keys": []}, {"keys": 5}, {"keys": [{"kty": "x"}]}, "keys"])
async def test_without_any_keys_it_is_asked_again_later(provider: Provider, clock: list[float], body: Any) -> None:
    provider.away, provider.body = body is None, body
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS)
    token = bearer(provider.keys["a"], "ES256", "a")
    assert await code_of(by_keys, token) == "failed"
    assert await code_of(by_keys, token) == "failed"
    assert provider.asked == 1, "a provider that is away is not asked for every token"
    provider.away, provider.body = False, None
    clock[0] += 2
    assert await by_keys.uid(token) == 1001


KEYS = st.fixed_dictionaries(
    {},
    optional={
        "kty": JSON | st.sampled_from(["RSA", "EC", "OKP", "oct"]),
        "crv": JSON | st.sampled_from(["P-256", "P-384", "Ed25519", "Ed448", "secp256k1"]),
        **dict.fromkeys(("n", "e", "x", "y", "k", "d"), JSON | st.binary(max_size=80).map(encoded)),
        **dict.fromkeys(("kid", "alg", "use"), JSON),
    },
)
NONSENSE = [
    b"[" * 100_000,
    b'{"keys":' + b"[" * 100_000,
    b"\xff",
    b"",
    b"x" * 2_000_000,
    b'{"keys":[' + b"9" * 5000 + b"]}",
]


@pytest.mark.parametrize("raw", NONSENSE, ids=range(len(NONSENSE)))
async def test_nonsense_is_a_provider_that_is_away(provider: Provider, clock: list[float], raw: bytes) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, provider.url, METRICS)
    token = bearer(provider.keys["a"], "ES256", "a")
    provider.raw = raw
    assert await code_of(by_keys, token) == await code_of(by_keys, token) == "failed"
    assert provider.asked == 1, "it is not asked at once again"


async def test_whatever_a_provider_publishes_beside_a_key_does_not_matter(provider: Provider) -> None:
    provider.add("a", "ES256")
    good = json.loads((await provider.answer(None)).body)["keys"]  # type: ignore[arg-type]
    token = bearer(provider.keys["a"], "ES256", "a")

    @given(st.lists(KEYS | JSON, max_size=4), st.lists(KEYS | JSON, max_size=4))
    def judged(before: list[Any], after: list[Any]) -> None:
        keys = jwks.JwksKeys(provider.url, 300, METRICS)
        keys._take(json.loads(json.dumps([*before, *good, *after])))
        assert keys._find(jwts.read(token.removeprefix("Bearer "))) is not None

    judged()


async def test_an_address_where_nobody_listens_is_a_provider_away(provider: Provider) -> None:
    provider.add("a", "ES256")
    by_keys = UserTokens(None, "http://127.0.0.1:9/keys", METRICS)
    with pytest.raises(Problem, match="IM_JWT_JWKS_URL") as refused:
        await by_keys.uid(bearer(provider.keys["a"], "ES256", "a"))
    assert refused.value.status == 503


async def test_a_providers_tokens_enter_the_embedded_broker(provider: Provider, clock: list[float]) -> None:
    provider.add("one", "RS256")
    provider.add("two", "ES256")
    login = EmbeddedLogin(SECRET, JwksKeys(provider.url, 300, METRICS))

    async def answer(authorization: str) -> int | None:
        try:
            await login.check("1001", authorization.removeprefix("Bearer "))
        except ConnectRefused as refused:
            return refused.answer[3]
        return None

    entering = [bearer(provider.keys["one"], "RS256", "one"), bearer(provider.keys["two"], "ES256", "other"), bearer()]
    assert [await answer(token) for token in entering] == [None] * 3
    foreign = bearer(ec.generate_private_key(ec.SECP256R1()), "ES256", "one")
    wrong = [foreign, bearer(provider.keys["one"], "RS256", exp=1), bearer(provider.keys["one"], "RS256", sub="1002")]
    assert [await answer(token) for token in wrong] == [5, 4, 4]
