"""What topics, usernames and ids name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.topics import MAX_ID, Command, Global, Group, Single, Tag, command, number, receiver


@pytest.mark.parametrize("text", ["1", "9", "10", "1001", str(MAX_ID)])
def test_ids_are_decimal_integers(text: str) -> None:
    assert number(text) == int(text)


NO_IDS = [
    "0",
    "01",
    "-1",
    "+1",
    "1.0",
    "1e3",
    "0x1",
    "abc",
    "undefined",
    "1_000",
    "\u0661",
    "²",
    "\uff11",
    "9007199254740992",
    "9999999999999999",
    "11111111111111111",
]


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1\n", "1" * 5000, *NO_IDS])
def test_nothing_else_is_an_id(text: str) -> None:
    assert number(text) is None


@given(st.text())
def test_an_id_is_written_one_way(text: str) -> None:
    value = number(text)
    assert value is None or (str(value) == text and 1 <= value <= MAX_ID)


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        ("single/1002", Single(1002)),
        (f"single/{MAX_ID}", Single(MAX_ID)),
        ("group/77", Group(77)),
        ("business/global", Global()),
        ("business/tag_x", Tag("x")),
        ("business/tag_A-z_0.9", Tag("A-z_0.9")),
        (f"business/tag_{'t' * 64}", Tag("t" * 64)),
    ],
)
def test_topics_that_messages_can_be_sent_to(topic: str, named: object) -> None:
    assert receiver(topic) == named


NOTHING = [
    "/",
    "single",
    "single/",
    "single/abc",
    "single/0",
    "single/01",
    "single/9007199254740992",
    "single/1/2",
    "Single/1",
    "/single/1",
    "single//1",
    "single/1002/",
    "single/+",
    "single/#",
    "send/single/1002",
    "group",
    "group/",
    "group/abc",
    "group/0",
    "group/77/create",
    "group/77/",
    "business",
    "business/",
    "business/x",
    "business/Global",
    "business/global/",
    "business/globalx",
    "business/tag",
    "business/tag_",
    "business/tag_é",
    "business/tag_a/b",
    "im/will/1001",
    "$SYS/x",
    "undefined",
]


@pytest.mark.parametrize(
    "topic",
    ["", "single/1002\n", "business/tag_x\n", "business/tag_a b", f"business/tag_{'t' * 65}", *NOTHING],
)
def test_topics_that_name_nothing(topic: str) -> None:
    assert receiver(topic) is None


@pytest.mark.parametrize("name", ["create", "invite", "join", "leave", "kick", "dismiss", "mode"])
def test_commands_of_groups(name: str) -> None:
    assert command(f"group/77/{name}") == Command(Group(77), name)


@pytest.mark.parametrize("name", ["follow", "unfollow"])
def test_commands_of_tags(name: str) -> None:
    assert command(f"business/tag_a.b/{name}") == Command(Tag("a.b"), name)


@pytest.mark.parametrize(
    "topic",
    [
        *("group/77/follow", "group/77/Create", "group/77", "group/0/join", "group/77/create/x", "group//create"),
        *("business/tag_x/join", "business/x/follow", "business/global/follow", "single/1/create", "create", ""),
    ],
)
def test_topics_that_command_nothing(topic: str) -> None:
    assert command(topic) is None
