"""Fields of EMQX's bodies: what is there, what EMQX has no value for, what is malformed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import BadBody
from hooks.webhook.body import moment, parse, text, username
from tests.recorded import recorded

EVENTS = ["client_connected", "client_disconnected", "session_subscribed", "delivery_dropped", "publish_single"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b'{"a":"\xff"}', b"{}{}", b"{'a':1}"]
)
def test_what_is_no_json_object_is_no_body(raw: bytes) -> None:
    with pytest.raises(BadBody):
        parse(raw)


@given(st.binary())
def test_any_bytes_are_a_body_or_refused(raw: bytes) -> None:
    try:
        assert isinstance(parse(raw), dict)
    except BadBody as error:
        assert error.status == 400  # noqa: PT017


@pytest.mark.parametrize("value", [None, "", "undefined", 1, True, [], {}])
def test_a_text_without_a_value_is_refused_by_name(value: object) -> None:
    for body in ({}, {"topic": value}):
        with pytest.raises(BadBody, match="`topic`"):
            text(body, "topic")


@pytest.mark.parametrize("value", [None, "", "undefined", "1", 1.0, -1, 2**53, True, [], {}])
def test_a_time_without_a_value_is_refused_by_name(value: object) -> None:
    for body in ({}, {"at": value}):
        with pytest.raises(BadBody, match="`at`"):
            moment(body, "at")


@pytest.mark.parametrize("at", [0, 1795438818820, 2**53 - 1])
def test_times_are_milliseconds(at: int) -> None:
    assert moment({"at": at}, "at") == at


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"username": "1001"}, "1001"),
        ({"username": ""}, ""),
        ({"username": "undefined"}, None),
        ({"username": None}, None),
    ],
)
def test_who_did_it(body: dict[str, Any], name: str | None) -> None:
    assert username(body) == name


@pytest.mark.parametrize("value", [1001, True, False, [], {}])
def test_a_body_without_username_is_refused(value: object) -> None:
    for body in ({}, {"username": value}):
        with pytest.raises(BadBody, match="`username`"):
            username(body)


@pytest.mark.parametrize("name", EVENTS)
def test_recorded_bodies_have_these_fields(name: str) -> None:
    for body in recorded(name):
        assert text(body, "event")
        assert text(body, "clientid")
        assert moment(body, "timestamp")
        assert (username(body) is None) == (body["clientid"] == "http_api")
