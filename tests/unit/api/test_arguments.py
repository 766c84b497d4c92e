"""Arguments of a query: nothing is clamped, nothing is guessed."""

from urllib.parse import quote

import pytest
from aiohttp.test_utils import make_mocked_request

from hooks.api.arguments import integer
from hooks.errors import Problem
from store.addresses import MAX_ID

MALFORMED = ["", " ", "-1", "+1", "1.0", "1e3", "0x1", "NaN", "None", "true", "1_0", "١", "²", "1,2", "9" * 17]  # noqa: RUF001


def last_id(query: str) -> int:
    return integer(make_mocked_request("GET", f"/pull?{query}"), "last_id", None, 0, MAX_ID)


def limit(query: str) -> int:
    return integer(make_mocked_request("GET", f"/pull?{query}"), "limit", 200, 1, 1000)


@pytest.mark.parametrize("given_", MALFORMED)
def test_what_is_no_integer_is_refused(given_: str) -> None:
    for argument in (last_id, limit):
        with pytest.raises(Problem) as refused:
            argument(f"{argument.__name__}={quote(given_)}")
        assert refused.value.code == "bad_argument"
        assert argument.__name__ in refused.value.message


@pytest.mark.parametrize(("query", "value"), [("limit=1", 1), ("limit=1000", 1000), ("limit=007", 7), ("", 200)])
def test_what_is_in_bounds_is_taken(query: str, value: int) -> None:
    assert limit(query) == value


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=1&limit=2", "limit=5&limit=5"])
def test_nothing_is_clamped_and_nothing_guessed(query: str) -> None:
    with pytest.raises(Problem, match="bad_argument"):
        limit(query)


@pytest.mark.parametrize(("query", "value"), [("last_id=0", 0), (f"last_id={MAX_ID}", MAX_ID)])
def test_every_cursor_is_taken(query: str, value: int) -> None:
    assert last_id(query) == value


@pytest.mark.parametrize("query", ["", f"last_id={MAX_ID + 1}", "last_id=-0"])
def test_a_cursor_is_needed(query: str) -> None:
    with pytest.raises(Problem, match="bad_argument"):
        last_id(query)
