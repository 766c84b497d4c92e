"""The table of error codes, and what is answered with it."""

import orjson
import pytest

from hooks.errors import CODES, BadBody, Problem, Refused, error_body, error_response, problem
from store.errors import CHANNEL_CODES, ChannelRefused, StoreError

STORE_ERRORS = StoreError.__subclasses__()


def test_codes_are_words_with_a_sentence() -> None:
    for code, (status, meaning) in CODES.items():
        assert code.replace("_", "").isalpha()
        assert code.islower()
        assert 400 <= status <= 503
        assert meaning.endswith(".")
        assert "\n" not in meaning


@pytest.mark.parametrize("kind", STORE_ERRORS)
def test_whatever_the_store_cannot_do_is_asked_again(kind: type[StoreError]) -> None:
    answer = problem(kind("why"))
    assert answer is not None
    assert (answer.status, answer.message) == (503, "why")


@pytest.mark.parametrize("code", CHANNEL_CODES)
def test_what_a_group_forbids_is_not_asked_again(code: str) -> None:
    answer = problem(ChannelRefused(code))
    assert answer is not None
    assert answer.status in (400, 409)
    assert (answer.code, answer.message) == (code, CODES[code].meaning)


@pytest.mark.parametrize("code", CODES)
def test_every_error_is_answered_in_one_shape(code: str) -> None:
    response = error_response(Problem(code))
    assert response.status == CODES[code].status
    assert response.content_type == "application/json"
    assert isinstance(response.body, bytes)
    assert orjson.loads(response.body) == {"error": {"code": code, "message": CODES[code].meaning}}
    assert ("Retry-After" in response.headers) == (response.status in (429, 503))
    assert ("WWW-Authenticate" in response.headers) == (response.status == 401)


def test_a_sentence_of_its_own_replaces_the_tables() -> None:
    assert orjson.loads(error_body("bad_body", 'a "b" ☃'))["error"]["message"] == 'a "b" ☃'
    assert BadBody("not JSON").message == "not JSON"
    assert Refused("bad_id", "x").message == CODES["bad_id"].meaning


def test_an_error_nobody_named_is_none_of_the_table() -> None:
    assert problem(RuntimeError("boom")) is None
