"""Tokens of all kinds, and what is said of those that are refused."""

import base64
import time
from typing import Any

import jwt
import pytest
from hypothesis import strategies as st

from hooks.errors import Problem
from hooks.metrics import Metrics
from hooks.tokens.bearer import UserTokens

SECRET = "a secret of the tests that is long enough for the longest digest that signs"
OTHER_SECRET = "another secret that is long enough for it"
METRICS = Metrics()


def claims(**changed: Any) -> dict[str, Any]:
    return {"sub": "1001", "exp": int(time.time()) + 600, **changed}


def bearer(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **changed: Any) -> str:
    """Returns an `Authorization` header; a claim given as None is left out."""
    named = {name: value for name, value in claims(**changed).items() if value is not None}
    return "Bearer " + jwt.encode(named, key, algorithm, headers={"kid": kid} if kid else None)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(payload: bytes) -> str:
    """Returns an `Authorization` header with any claims."""
    return "Bearer " + jwt.api_jws.encode(payload, SECRET, "HS256")


async def code_of(user_tokens: UserTokens, authorization: str) -> str:
    with pytest.raises(Problem) as refused:
        await user_tokens.uid(authorization)
    return refused.value.code


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers() | st.integers(10**300, 10**400),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
