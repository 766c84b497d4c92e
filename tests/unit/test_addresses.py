"""Tests what topics, channels, conversations and ids name, and that one module alone knows how they are written."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.addresses import (
    FIRST_LEVELS,
    GLOBAL,
    INBOX_CONVERSATIONS,
    MAX_ID,
    TAG_CHANNELS,
    VERBS,
    Address,
    Channel,
    CommandTopic,
    Global,
    Group,
    Inbox,
    SendTopic,
    Tag,
    Topic,
    WillTopic,
    is_business,
    is_for_many,
    number,
    parse,
    parse_channel,
    parse_stored,
    sender_of,
    sent_conversation,
    tag_named,
)

ROOT = Path(__file__).parents[2]

ids = st.integers(1, MAX_ID)
tags = st.builds(Tag, st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True))
channels = st.one_of(st.builds(Group, ids), st.just(GLOBAL), tags)
addresses = st.one_of(st.builds(Inbox, ids), channels)
commands = addresses.flatmap(
    lambda address: (
        st.sampled_from(sorted(VERBS[type(address)])).map(lambda verb: CommandTopic(address, verb))
        if VERBS[type(address)]
        else st.nothing()
    )
)
topics = st.one_of(
    addresses,
    commands,
    st.builds(SendTopic, st.one_of(st.builds(Inbox, ids), st.builds(Group, ids))),
    st.builds(WillTopic, ids),
)
names = ["will", "tag_", "tag_x", "global", "1", "77", "0", "01", "create", "follow", "read", "x", "", "/"]
pieces = st.sampled_from([*sorted(FIRST_LEVELS), *names])
written = st.one_of(st.text(), st.lists(pieces, max_size=8).map("/".join), st.lists(pieces, max_size=8).map("".join))


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
    "1\u0661",
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


@given(topics)
def test_a_topic_names_what_it_was_written_for(named: Topic) -> None:
    assert parse(named.topic) == named


@given(written)
def test_what_a_topic_names_is_written_one_way(text: str) -> None:
    named = parse(text)
    assert named is None or named.topic == text


@given(channels)
def test_a_channel_is_that_of_one_address(named: Channel) -> None:
    assert parse_channel(named.channel) == named


@given(addresses)
def test_a_conversation_is_the_topic_of_one_address(named: Address) -> None:
    assert parse_stored(named.conversation) == named
    assert named.conversation.startswith(INBOX_CONVERSATIONS) is isinstance(named, Inbox)


@pytest.mark.parametrize(
    ("topic", "channel", "named"),
    [
        ("single/1002", None, Inbox(1002)),
        (f"single/{MAX_ID}", None, Inbox(MAX_ID)),
        ("group/77", "group:77", Group(77)),
        ("business/global", "global", GLOBAL),
        ("business/tag_x", "tag_x", Tag("x")),
        ("business/tag_A-z_0.9", "tag_A-z_0.9", Tag("A-z_0.9")),
        ("business/tag_tag_", "tag_tag_", Tag("tag_")),
        (f"business/tag_{'t' * 64}", f"tag_{'t' * 64}", Tag("t" * 64)),
    ],
)
def test_topics_that_messages_can_be_sent_to(topic: str, channel: str | None, named: Address) -> None:
    assert parse(topic) == parse_stored(topic) == named
    assert (named.topic, named.channel, named.conversation) == (topic, channel, topic)


def test_addresses_of_one_number_are_not_the_same() -> None:
    assert len({Inbox(7), Group(7), WillTopic(7), SendTopic(Inbox(7)), SendTopic(Group(7))}) == 5
    assert Global() == GLOBAL


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
    "send",
    "send/",
    "send/1002",
    "send/single",
    "send/single/0",
    "send/send/single/1",
    "send/group/77/create",
    "send/business/global",
    "send/im/will/1",
    "group",
    "group/",
    "group/abc",
    "group/0",
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
    "im",
    "im/will",
    "im/will/",
    "im/will/0",
    "im/will/undefined",
    "im/will/1001/x",
    "$SYS/x",
    "undefined",
]


@pytest.mark.parametrize(
    "topic",
    ["", "single/1002\n", "business/tag_x\n", "business/tag_a b", f"business/tag_{'t' * 65}", *NOTHING],
)
def test_topics_that_name_nothing(topic: str) -> None:
    assert parse(topic) is None
    with pytest.raises(ValueError, match="not the topic of an address"):
        parse_stored(topic)


@pytest.mark.parametrize("verb", ["create", "invite", "join", "leave", "kick", "dismiss", "mode"])
def test_commands_of_groups(verb: str) -> None:
    assert parse(f"group/77/{verb}") == CommandTopic(Group(77), verb)


@pytest.mark.parametrize("verb", ["recall", "edit"])
def test_commands_of_conversations(verb: str) -> None:
    assert parse(f"single/1002/{verb}") == CommandTopic(Inbox(1002), verb)
    assert parse(f"group/77/{verb}") == CommandTopic(Group(77), verb)
    assert parse(f"business/global/{verb}") is None
    assert parse(f"business/tag_x/{verb}") is None
    assert parse(f"send/single/1002/{verb}") is None


@pytest.mark.parametrize("verb", ["follow", "unfollow"])
def test_commands_of_tags(verb: str) -> None:
    assert parse(f"business/tag_a.b/{verb}") == CommandTopic(Tag("a.b"), verb)


@pytest.mark.parametrize(
    "topic",
    [
        *("group/77/follow", "group/77/Create", "group/0/join", "group/77/create/x", "group//create"),
        *("business/tag_x/join", "business/x/follow", "business/global/follow", "single/1/create", "create", ""),
    ],
)
def test_topics_that_command_nothing(topic: str) -> None:
    assert parse(topic) is None


@pytest.mark.parametrize("topic", ["group/77/create", "send/single/1", "im/will/1"])
def test_no_message_is_stored_under_what_is_no_address(topic: str) -> None:
    assert parse(topic) is not None
    with pytest.raises(ValueError, match="not the topic of an address"):
        parse_stored(topic)


@pytest.mark.parametrize("name", ["", "group:", "group:0", "group:x", "group", "tag_", "tag_a b", "Global", "single:1"])
def test_names_of_no_channel(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a channel"):
        parse_channel(name)


def test_names_of_tags() -> None:
    assert tag_named("vip.gold") == Tag("vip.gold")
    assert [tag_named(name) for name in ("", "a b", "a/follow", "é", "t" * 65, "x\n")] == [None] * 6
    assert Tag("x").channel == TAG_CHANNELS + "x"


def test_where_topics_lie_even_if_they_name_nothing() -> None:
    assert [is_business(topic) for topic in ("business/global", "business/x", "business", "group/7")] == [
        *(True, True, False, False)
    ]
    assert all(map(is_for_many, ("business/global", "business/#", "group/7", "group/+")))
    assert not any(map(is_for_many, ("single/7", "send/group/7", "elsewhere", "groups/7")))


def test_what_a_user_sent_lies_in_a_conversation_of_its_own() -> None:
    assert sender_of(sent_conversation("1001")) == "1001"
    assert sender_of(sent_conversation("")) == ""
    assert [sender_of(name) for name in ("", "single/1001", "group/1", "business/global")] == [None] * 4


# The border

GRAMMAR = re.compile(r"(?:single|group|business|send|sent)/|im/will|tag_$|group:(?! )|(?:single|business|global)$")
"""The start of a literal that is part of a topic, a channel or a conversation. Sentences begin otherwise."""

SPLITS = {"split", "rsplit", "partition", "rpartition"}

MAY = {
    "hooks/api/openapi/paths.py": "an example in the OpenAPI document",
    "hooks/api/openapi/__init__.py": "takes paths of HTTP apart",
    "hooks/dev/topics.py": "matches MQTT's topic filters, whatever they mean",
    "hooks/dev/authorization.py": "takes $delayed topics apart, as EMQX does",
    "store/timelines/append.py": "names the kinds of entries as append.lua does",
    "hooks/doctor/around.py": "looks at topic filters of other features of EMQX",
}


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each string constant that is no docstring, parts of f-strings among them."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings and isinstance(node.value, str | bytes):
            value = node.value
            yield node.lineno, value if isinstance(value, str) else value.decode("latin-1")


def parts_by_level(tree: ast.Module) -> Iterator[int]:
    """The lines that take a string apart at its slashes."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in SPLITS
            and any(isinstance(each, ast.Constant) and each.value in ("/", b"/") for each in node.args)
        ):
            yield node.lineno


def knows_the_grammar(path: Path) -> list[str]:
    name, tree = str(path.relative_to(ROOT)), ast.parse(path.read_text())
    found = [f"{name}:{line}: {text!r}" for line, text in literals(tree) if GRAMMAR.match(text)]
    return found + [f"{name}:{line}: takes a string apart at its slashes" for line in parts_by_level(tree)]


def test_nothing_but_addresses_knows_how_topics_are_written() -> None:
    files = [path for folder in ("hooks", "store") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 150
    knowing = {str(path.relative_to(ROOT)): found for path in files if (found := knows_the_grammar(path))}
    assert len(knowing.pop("store/addresses.py")) > 10
    assert {name: found for name, found in knowing.items() if name not in MAY} == {}
    assert knowing.keys() == MAY.keys()


@pytest.mark.parametrize(
    "line",
    [
        'topic = f"single/{uid}"',
        'topic.startswith("group/")',
        'name = "tag_" + tag',
        'f"tag_{tag}"',
        'kind == "single"',
        'kind, _, name = topic.partition("/")',
        'f"{PREFIX}im/will"; "im/will/"',
        'b"group:%d" % gid',
    ],
)
def test_the_border_sees_who_crosses_it(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.test_addresses.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(f'"""single/1 in a docstring."""\n{line}\n')
    assert len(knows_the_grammar(path)) == 1


LUA_AND_SQL = re.compile(r"'(?:single|group|business|send|sent)/|'tag_'|'group:|'global'")


def test_lua_and_sql_are_handed_what_topics_and_channels_are_called() -> None:
    files = [path for kind in ("*.lua", "*.sql") for path in sorted((ROOT / "store").rglob(kind))]
    assert len(files) > 30
    knowing = {path.name for path in files if LUA_AND_SQL.search(path.read_text())}
    # The kind of an entry, and a migration that filled a new table from old ones.
    assert knowing <= {"append.lua", "005_channel_change.sql"}
