"""The cookies of operators' sessions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.tokens.logins import SESSION_SECONDS, Logins
from hooks.tokens.operators import VIEWER, Caller, OperatorTokens


def sessions(viewer: str | None = "viewer") -> Logins:
    return Logins(OperatorTokens("admin", viewer), "secret", "admin", viewer)


def as_read(raw: bytes) -> str:
    """Returns what a header with these bytes is read as."""
    return raw.decode("utf-8", "surrogateescape")


@given(name=st.text(max_size=20), place=st.integers(0, 300), instead=st.binary(max_size=4), cut=st.booleans())
def test_no_other_cookie_is_a_session(name: str, place: int, instead: bytes, cut: bool) -> None:
    cookie = sessions().cookie(Caller(name, VIEWER))
    raw = cookie.encode()
    other = as_read(raw[:place] + instead + (b"" if cut else raw[place + len(instead) :]))
    held = sessions().read(other)
    assert (held is None) == (other != cookie)


@given(raw=st.binary(max_size=60))
def test_no_bytes_are_a_session_by_chance(raw: bytes) -> None:
    assert sessions().read(as_read(raw)) is None


def test_a_session_ends_by_itself_and_with_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = sessions().cookie(Caller("Zoë", VIEWER))
    held = sessions().read(cookie)
    assert held is not None
    assert held.caller == Caller("Zoë", VIEWER)
    assert sessions(None).read(cookie) is None
    body, _, signature = cookie.partition(".")
    for forged in (f"{body}.{signature[::-1]}", f"{body}x.{signature}", signature, body):
        assert sessions().read(forged) is None
    monkeypatch.setattr("time.time", lambda: held.ends - 1)
    assert sessions().read(cookie) is not None
    monkeypatch.setattr("time.time", lambda: held.ends)
    assert sessions().read(cookie) is None
    assert SESSION_SECONDS == 43_200
