"""The cookies of operators' sessions."""

import pytest

from hooks.tokens.logins import SESSION_SECONDS, Logins
from hooks.tokens.operators import VIEWER, Caller, OperatorTokens


def sessions(viewer: str | None = "viewer") -> Logins:
    return Logins(OperatorTokens("admin", viewer), "secret", "admin", viewer)


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
