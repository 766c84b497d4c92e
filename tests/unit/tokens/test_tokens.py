"""Tokens: the fixed ones, and users' JWTs by secret or by published keys."""

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.dev.login import EmbeddedLogin
from hooks.dev.packets import ConnectRefused, Ended
from hooks.errors import Problem
from hooks.tokens import bearer as tokens
from hooks.tokens import jwts
from hooks.tokens.bearer import FixedTokens, UserTokens, receiver_key
from tests.unit.tokens.jwt_samples import JSON, METRICS, OTHER_SECRET, SECRET, bearer, claims, code_of, encoded, signed

# Fixed tokens


@pytest.mark.parametrize(
    "authorization", ["Bearer one", "Bearer two", "Bearer dr\u00e9i", "bearer one", "BEARER one", "bEaReR   one"]
)
def test_any_of_the_fixed_tokens_is_accepted(authorization: str) -> None:
    assert FixedTokens(("one", "two", "dr\u00e9i")).accept(authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Bearer ", "one", "Bearer on", "Bearer onee", "Bearer one ", "Basic one", "Bearer \udcff"),
        *(
            "Bearer\tone",
            "Bearer\u00a0one",
            " Bearer one",
            "Bearerone",
            "Bearer: one",
            "\u1d47earer one",
            "bearer, one",
        ),
    ],
)
def test_nothing_else_is_accepted(authorization: str) -> None:
    assert not FixedTokens(("one", "two")).accept(authorization)


def test_a_receivers_key_is_his_alone() -> None:
    assert receiver_key(SECRET, 1001) == receiver_key(SECRET, "1001")
    assert len({receiver_key(SECRET, 1001), receiver_key(SECRET, 1002), receiver_key(OTHER_SECRET, 1001)}) == 3


# Tokens signed with the secret


@pytest.fixture
def by_secret() -> UserTokens:
    return UserTokens(SECRET, None, METRICS)


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
        {"exp": "1"},
        {"exp": 10**400 * -1},
        {"exp": True},
        {"exp": "0x7fffffff"},
        {"exp": "1e99"},
        {"exp": "1." + "9" * 300 + "e999"},
        {"exp": {}},
        {"nbf": 2**40},
        {"nbf": "9999999999"},
        {"nbf": "x"},
        {"nbf": []},
    ],
    ids=str,
)
async def test_missing_and_bad_claims_are_refused(by_secret: UserTokens, changed: dict[str, Any]) -> None:
    named = {name: value for name, value in claims(**changed).items() if value is not None}
    assert await code_of(by_secret, signed(json.dumps(named).encode())) == "unauthorized"


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"5", b"{", b"[" * 9000, b'{"exp":' + b"9" * 5000 + b"}", b"\xff", b"null"]
)
async def test_claims_that_cannot_be_read_are_refused(by_secret: UserTokens, payload: bytes) -> None:
    assert await code_of(by_secret, signed(payload)) == "unauthorized"


@pytest.mark.parametrize(
    "changed",
    [
        {"iat": 2**40},
        {"iat": "x"},
        {"iat": None, "aud": ["somebody", 5], "iss": 7, "jti": 5, "acl": {}},
        {"exp": str(int(time.time()) + 600)},
        {"exp": f"+{int(time.time()) + 600}"},
        {"exp": 10**10},
        {"nbf": 0},
        {"nbf": -1.5},
        {"nbf": "1"},
    ],
    ids=lambda changed: ",".join(changed),
)
async def test_what_emqx_takes_is_taken(by_secret: UserTokens, changed: dict[str, Any]) -> None:
    token = signed(json.dumps(claims(**changed)).encode())
    assert await by_secret.uid(token) == 1001
    assert await EmbeddedLogin(SECRET).check("1001", token.removeprefix("Bearer ")) is not None


@pytest.mark.parametrize(
    "exp",
    [time.time() + 600.5, f"+{int(time.time()) + 600}.25", 4e9, 10**12, 10**400],
    ids=["float", "text", "4e9", "ms", "far"],
)
async def test_an_expiry_that_emqx_cannot_set_a_timer_for_pulls_all_the_same(by_secret: UserTokens, exp: Any) -> None:
    token = signed(json.dumps(claims(exp=exp)).encode())
    assert await by_secret.uid(token) == 1001
    with pytest.raises((ConnectRefused, Ended)):
        await EmbeddedLogin(SECRET).check("1001", token.removeprefix("Bearer "))


async def test_parts_may_be_padded(by_secret: UserTokens) -> None:
    parts = bearer().removeprefix("Bearer ").split(".")
    assert await by_secret.uid("Bearer " + ".".join(part + "=" * (-len(part) % 4) for part in parts)) == 1001


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_the_secret_signs_by_any_hmac(by_secret: UserTokens, algorithm: str) -> None:
    assert await by_secret.uid(bearer(algorithm=algorithm)) == 1001


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEARER"])
@pytest.mark.parametrize("spaces", [" ", "    "])
async def test_the_scheme_is_read_as_http_has_it(by_secret: UserTokens, scheme: str, spaces: str) -> None:
    assert await by_secret.uid(bearer().replace("Bearer ", scheme + spaces)) == 1001


async def test_tokens_have_a_greatest_length(by_secret: UserTokens) -> None:
    room = jwts.MAX_CHARACTERS - len(bearer(padding="")) + len("Bearer ")
    longest = bearer(padding="x" * (room // 4 * 3 - 3))
    assert jwts.MAX_CHARACTERS - 8 < len(longest.removeprefix("Bearer ")) <= jwts.MAX_CHARACTERS
    assert await by_secret.uid(longest) == 1001
    with pytest.raises(Problem, match="longer than 16384 characters"):
        await by_secret.uid(bearer(padding="x" * room))


NUMBERS = (
    JSON
    | st.integers(0, 2**40)
    | st.floats(0, 1e12)
    | st.from_regex(r"[-+]?[0-9]{1,12}(\.[0-9]{1,3})?", fullmatch=True)
)


@given(
    claims=st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("exp", "nbf", "iat"), NUMBERS),
            **dict.fromkeys(("aud", "iss", "jti", "kid"), JSON),
            "sub": JSON | st.just("1001"),
        },
    )
)
def test_pull_and_embedded_broker_judge_alike(claims: dict[str, Any]) -> None:
    token = signed(json.dumps(claims).encode())
    pulls = enters = False
    with contextlib.suppress(Problem):
        pulls = asyncio.run(UserTokens(SECRET, None, METRICS).uid(token)) == 1001
    with contextlib.suppress(ConnectRefused, Ended):
        asyncio.run(EmbeddedLogin(SECRET).check("1001", token.removeprefix("Bearer ")))
        enters = True
    if "exp" not in claims:
        assert not pulls
    elif pulls:
        assert enters == (str(claims["exp"]).lstrip("+").isdigit() and int(claims["exp"]) < 10**10)
    else:
        assert not enters


PARTS = (
    st.text("AZaz09-_=.{}\u00e9\0 ", max_size=40)
    | st.binary(max_size=40).map(encoded)
    | JSON.map(lambda given: encoded(json.dumps(given).encode()))
)
HEADERS = st.fixed_dictionaries(
    {"alg": JSON | st.sampled_from(["HS256", "RS256", "ES256", "PS512", "EdDSA", "none", "HS1024"])},
    optional={"kid": JSON, "crit": JSON, "b64": JSON},
).map(lambda given: encoded(json.dumps(given).encode()))


@given(header=HEADERS | PARTS, payload=PARTS, signature=PARTS)
def test_whatever_a_holder_sends_is_refused_as_such(header: str, payload: str, signature: str) -> None:
    authorization = f"Bearer {header}.{payload}.{signature}"
    with pytest.raises(Problem) as refused:
        asyncio.run(UserTokens(SECRET, None, METRICS).uid(authorization))
    assert refused.value.code == "unauthorized"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic MTAwMTp4",
        bearer().removeprefix("Bearer "),
        bearer(OTHER_SECRET),
        bearer(OTHER_SECRET + SECRET, "HS384"),
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
    async with asyncio.timeout(20):
        await expired(by_secret, token)
    assert await code_of(by_secret, token) == "unauthorized"


async def expired(user_tokens: UserTokens, token: str) -> None:
    with contextlib.suppress(Problem):
        while await user_tokens.uid(token):  # noqa: ASYNC110  (the clock itself is waited for)
            await asyncio.sleep(0.02)


async def test_the_oldest_remembered_tokens_go(by_secret: UserTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 2)
    for uid in ("1", "2", "3", "1"):
        assert await by_secret.uid(bearer(sub=uid)) == int(uid)
    assert len(by_secret._verified) == 2
    assert by_secret._characters == sum(map(len, by_secret._verified))
    monkeypatch.setattr(tokens, "_REMEMBERED_CHARACTERS", 1000)
    for padding in range(10):
        await by_secret.uid(bearer(padding="x" * (100 + padding)))
    assert by_secret._characters == sum(map(len, by_secret._verified)) <= 1000
