"""All places that decide who is a user, and what a topic's number is, agree.

A uid is a decimal integer from 1 to 2^53-1 in ASCII digits, without leading zeros and with nothing around it.
"""

import asyncio
import sys
import time
import unicodedata
from importlib.resources import files
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hooks.dev.acl import Acl
from hooks.dev.events import EventMessage, published
from hooks.dev.rules import EvaluatedRules
from hooks.emqx.rules import files as rule_files
from hooks.errors import Problem
from hooks.metrics import Metrics
from hooks.tokens.bearer import UserTokens
from store.addresses import CommandTopic, Group, Inbox, SendTopic, WillTopic, number, parse

SECRET = "a secret of the tests that is long enough"
METRICS = Metrics()
LARGEST = 9_007_199_254_740_991
DIRECTORY = files("hooks") / "rules"
ACL = Acl.parse(rule_files.acl(DIRECTORY, trusted_send=False))
TRUSTED_ACL = Acl.parse(rule_files.acl(DIRECTORY, trusted_send=True))
TRUSTED_RULES = EvaluatedRules.load(DIRECTORY, trusted_send=True)

DIGITS = [character for character in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(character) == "Nd"]
SPACES = [character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()]
ODD = [*SPACES, "\0", "\r\n", "\u200b", "\ufeff", "\u2060", "+", "-", "_", ".", "e", "²", "½"]

numbers = st.one_of(
    st.integers(0, 10**17),
    st.integers(LARGEST - 1000, LARGEST + 1000),
    st.builds(
        lambda digits, tail: LARGEST // 10**digits * 10**digits + tail, st.integers(0, 16), st.integers(0, 10**16)
    ),
    st.builds(lambda power, offset: 10**power + offset, st.integers(0, 17), st.integers(-1, 1)),
).map(str)
around = st.sampled_from(["", *ODD])
names = st.one_of(
    numbers,
    st.builds(lambda before, text, after: before + text + after, around, numbers, around),
    st.builds(lambda text, odd, at: text[:at] + odd + text[at:], numbers, st.sampled_from(ODD), st.integers(0, 17)),
    st.lists(st.sampled_from(DIGITS), min_size=1, max_size=17).map("".join),
    st.builds(lambda zeros, text: "0" * zeros + text, st.integers(1, 3), numbers),
    st.text(max_size=20),
)


def is_uid(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name and 1 <= int(name) <= LARGEST


def uid_of(token: str) -> int | None:
    try:
        return asyncio.run(UserTokens(SECRET, None, METRICS).uid(f"Bearer {token}"))
    except Problem as problem:
        return {"not_a_uid": None}[problem.code]


def test_what_is_tried() -> None:
    assert len(DIGITS) > 600
    assert {"\n", "\x0b", "\x85", "\u2028", "\u3000"} < set(SPACES)


@given(names)
@example(str(LARGEST))
@example(str(LARGEST + 1))
@example("1001\n")
@example("1001\0")
def test_who_is_a_user(name: str) -> None:
    expected = is_uid(name)
    assert number(name) == (int(name) if expected else None)
    for acl, topic in ((ACL, "single/1"), (TRUSTED_ACL, "send/single/1")):
        for action, wanted in (("publish", topic), ("publish", "group/1/create"), ("subscribe", "business/global")):
            assert (acl.decide(name, "phone", action, wanted) is True) is expected  # type: ignore[arg-type]
        assert (acl.decide(name, "phone", "subscribe", f"single/{name}") is True) is expected
    event = published(EventMessage("send/single/1", b"x", 1, "phone", username=name, peerhost="127.0.0.1"))
    assert bool(list(TRUSTED_RULES.copies(event))) is expected


@given(names)
@example("1001\n")
def test_whose_token_pulls(name: str) -> None:
    token = jwt.encode({"sub": name, "exp": int(time.time()) + 600}, SECRET, "HS256")
    assert uid_of(token) == (int(name) if is_uid(name) else None)


@given(names)
@example(str(LARGEST + 1))
@example("77\n")
def test_what_a_topic_names(name: str) -> None:
    value = int(name) if is_uid(name) else None
    wanted: list[tuple[Any, Any]] = [
        (parse(f"single/{name}"), Inbox),
        (parse(f"group/{name}"), Group),
        (parse(f"send/single/{name}"), lambda uid: SendTopic(Inbox(uid))),
        (parse(f"send/group/{name}"), lambda gid: SendTopic(Group(gid))),
        (parse(f"im/will/{name}"), WillTopic),
        (parse(f"group/{name}/create"), lambda gid: CommandTopic(Group(gid), "create")),
    ]
    for named, kind in wanted:
        assert named == (None if value is None else kind(value))


@pytest.mark.parametrize("trusted_send", [False, True])
def test_the_broker_takes_the_numbers_at_the_edge_of_every_alternative(trusted_send: bool) -> None:
    acl = TRUSTED_ACL if trusted_send else ACL
    for power in range(17):
        for value in (10**power - 1, 10**power, LARGEST // 10**power * 10**power - 1, LARGEST // 10**power * 10**power):
            name = str(value)
            assert (acl.decide(name, "phone", "subscribe", "business/global") is True) is is_uid(name), name
