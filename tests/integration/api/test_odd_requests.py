"""Sends odd requests to `/admin`: each is done or refused for what it is, and none makes the service fail."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.app import App
from tests.integration.openapi import DOCUMENT, OPERATIONS, resolved

pytestmark = pytest.mark.asyncio(loop_scope="session")

ADMIN = sorted((path, method) for path, method in OPERATIONS if path.startswith("/admin"))

_UIDS = st.sampled_from(["1", "1001", "0", "-1", "9007199254740991", "9007199254740992", "1e3", "\u0966", "ops", ""])
_TOPICS = st.sampled_from(["business/global", "single/1", "group/1", "business/tag_a"])
_TEXTS = st.text(max_size=20) | _UIDS | _TOPICS | st.sampled_from(["x" * 5000, "..", "\0"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=8,
)


def names(path: str, method: str) -> tuple[list[str], list[str]]:
    """Returns what the document names in the query and in the body."""
    operation = DOCUMENT["paths"][path][method]
    query = [each["name"] for each in map(resolved, operation.get("parameters", [])) if each["in"] == "query"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return query, sorted(resolved(body).get("properties", {}))


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any]:
    """Method, path with its query, and body: JSON, bytes, or None."""
    template, method = draw(st.sampled_from(ADMIN))
    query, fields = names(template, method)
    path = template.removeprefix("/admin")
    while "{" in path:
        before, _, after = path.partition("{")
        path = before + (quote(draw(_TEXTS), safe="") or "x") + after.partition("}")[2]
    asked = draw(st.dictionaries(st.sampled_from([*query, "other"]), _TEXTS, max_size=3))
    shaped = st.fixed_dictionaries({}, optional=dict.fromkeys(fields, _JSON)) if fields else st.just({})
    body = draw(st.none() | st.binary(max_size=50) | shaped | _JSON)
    return method.upper(), path + (f"?{urlencode(asked)}" if asked else ""), body


@given(asked=requests())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_no_request_makes_it_fail(app: App, asked: tuple[str, str, Any]) -> None:
    method, path, body = asked
    arguments = {} if body is None else {"data": body if isinstance(body, bytes) else json.dumps(body)}
    answer = await app.admin(method, path, **arguments)
    assert answer.status < 500, (method, path, body, answer.raw)
    if answer.status >= 400:
        assert answer.code != "internal"
