"""Tests what payloads of commands to groups say, and which say nothing that can be done."""

from typing import Any

import pytest

from hooks.messaging.commands import Create, GroupCommand, Kick, Leave, Mode, read
from hooks.messaging.moderation import Admin, Mute, Transfer, Update
from store.groups.moderation import MAX_MUTE_SECONDS


@pytest.mark.parametrize(
    ("name", "fields", "command"),
    [
        ("create", {}, Create((), "", "write", False)),
        ("create", {"name": "n" * 128, "members": ["7", 7, 8]}, Create((7, 8), "n" * 128, "write", False)),
        ("leave", {"all_of_owner": True}, Leave(True)),
        ("kick", {"members": [7]}, Kick((7,))),
        ("mode", {"mode": "read"}, Mode("read")),
        ("update", {"name": ""}, Update("", None, None)),
        ("update", {"open": False, "name": None}, Update(None, False, None)),
        ("update", {"name": "n" * 128, "notice": "ü" * 2048}, Update("n" * 128, None, "ü" * 2048)),
        ("transfer", {"to": "7"}, Transfer(7)),
        ("transfer", {"to": 7}, Transfer(7)),
        ("admin", {"members": [7, "7", 8], "on": False}, Admin((7, 8), False)),
        ("mute", {"members": "all", "seconds": 0}, Mute(None, 0)),
        ("mute", {"members": ["7"], "seconds": MAX_MUTE_SECONDS}, Mute((7,), MAX_MUTE_SECONDS)),
    ],
)
def test_what_a_payload_says(name: str, fields: dict[str, Any], command: GroupCommand) -> None:
    assert read(name, fields) == command


@pytest.mark.parametrize(
    ("name", "fields", "complaint"),
    [
        ("create", {"name": "n" * 129}, "`name` is not a string of at most 128"),
        ("update", {}, "neither `name` nor `open` nor `notice`"),
        ("update", {"name": 7}, "`name` is not a string"),
        ("update", {"open": 1}, "`open` is neither"),
        ("update", {"notice": "n" * 2049}, "`notice` is not a string of at most 2048"),
        ("transfer", {}, "`to`: 'None' is not a user id"),
        ("transfer", {"to": 0}, "`to`"),
        ("transfer", {"to": True}, "`to`"),
        ("admin", {"members": [7]}, "`on` is missing"),
        ("admin", {"members": [7], "on": 1}, "`on` is neither"),
        ("admin", {"on": True}, "`members` names nobody"),
        ("mute", {"members": [7]}, "`seconds`"),
        ("mute", {"members": [7], "seconds": True}, "`seconds`"),
        ("mute", {"members": [7], "seconds": 1.5}, "`seconds`"),
        ("mute", {"members": [7], "seconds": -1}, "`seconds`"),
        ("mute", {"members": "all", "seconds": MAX_MUTE_SECONDS + 1}, "`seconds`"),
        ("mute", {"seconds": 1}, "`members` names nobody"),
        ("mute", {"members": "ALL", "seconds": 1}, "`members` is not a list"),
        ("explode", {}, "there is no command"),
    ],
)
def test_what_cannot_be_done(name: str, fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(name, fields)
