from importlib.resources import files

import pytest

from hooks.dev import EmbeddedError
from hooks.dev.acl import Acl, Action

SHIPPED = Acl.parse((files("hooks") / "rules" / "acl.conf").read_text())


@pytest.mark.parametrize(
    ("username", "action", "topic", "expected"),
    [
        ("1001", "publish", "single/1002", True),
        ("1001", "publish", "group/77/create", True),
        ("1001", "publish", "business/tag_x/follow", True),
        ("1001", "publish", "single/1002/recall", True),
        ("1001", "publish", "single/1002/set", True),
        ("1001", "publish", "group/77/edit", True),
        ("1001", "subscribe", "single/1001/recall", None),
        ("1001", "subscribe", "single/+/recall", None),
        ("1001", "subscribe", "group/77/recall", None),
        ("ops", "publish", "single/1002/recall", None),
        ("1001", "publish", "im/will/1001", True),
        ("1001", "publish", "im/will/1002", None),
        ("1001", "publish", "group/77", None),
        ("1001", "publish", "business/global", None),
        ("1001", "subscribe", "single/1001", True),
        ("1001", "subscribe", "single/1002", None),
        ("1001", "subscribe", "single/+", None),
        ("1001", "subscribe", "business/global", True),
        ("1001", "subscribe", "#", False),
        ("1001", "subscribe", "$SYS/brokers", False),
        ("ops", "publish", "single/1002", None),
        ("+", "subscribe", "single/+", False),
        ("undefined", "publish", "single/1", False),
        ("0", "publish", "single/1", False),
    ],
)
def test_what_the_shipped_file_decides(username: str, action: Action, topic: str, expected: bool | None) -> None:
    assert SHIPPED.decide(username, f"{username}-phone", action, topic) is expected


def test_first_entry_that_covers_the_question_decides() -> None:
    acl = Acl.parse(
        """%% a comment
        {deny, {username, "eve"}, publish, ["a/#"]}. {allow, all, all,
          ["a/${clientid}", {eq, "b/+"}]}.
        """
    )
    assert acl.decide("eve", "c", "publish", "a/c") is False
    assert acl.decide("eve", "c", "subscribe", "a/c") is True
    assert acl.decide("bob", "c", "publish", "a/d") is None
    assert acl.decide("bob", "c", "subscribe", "b/+") is True
    assert acl.decide("bob", "c", "publish", "b/x") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '\n{allow, {ipaddr, "127.0.0.1"}, all, ["#"]}.',
            'acl.conf line 2: not supported: {ipaddr, "127.0.0.1"}',
        ),
        ('{permit, all, all, ["#"]}.', 'acl.conf line 1: not supported: {permit, all, all, ["#"]}'),
        ('{allow, all, {publish, [{qos, x}]}, ["#"]}.', "acl.conf line 1: not supported: {allow"),
        ('{allow, all, all, ["single/${cert_common_name}"]}.', 'not supported: "single/${cert_common_name}"'),
        ('{allow, all, all, ["eq a"]}.', 'not supported: "eq a"'),
        ('{allow, {username, {re, "["}}, all, ["#"]}.', "is not a regular expression"),
        ('{allow, {username, {re, "^1$"}}, all, ["#"]}.', "acl.conf line 1: not supported: $ in ^1$"),
        ('{allow, all, all, ["a"]}', "line 1: no `.` after"),
        ('{allow, all, all, ["a"', "is not closed"),
        ('{allow all, all, ["a"]}.', "`,` or `}` is missing"),
        ('{allow, all, all, [<<"a">>]}.', 'acl.conf line 1: not supported: <<"a">>]}.'),
        ('{allow, all, all, ["a\\x41"]}.', "not supported: \\x"),
        ("{deny, all}.", "not supported: {deny, all}"),
        (".", "not supported: ."),
        ("{,}.", "not supported: ,"),
    ],
)
def test_anything_else_is_refused_by_line_and_term(text: str, message: str) -> None:
    with pytest.raises(EmbeddedError) as caught:
        Acl.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_escapes_in_strings() -> None:
    acl = Acl.parse(r'{allow, {username, {re, "^\\d+\\z"}}, all, ["say \"hi\""]}.')
    assert acl.decide("12", "c", "publish", 'say "hi"') is True
    assert acl.decide("x", "c", "publish", 'say "hi"') is None
