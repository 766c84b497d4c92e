"""Lua headers are the contract: what they say is what Redis gets, and what they do not say is refused."""

import re
from enum import StrEnum
from importlib.resources import files
from typing import NamedTuple

import pytest

from store.redis import keys
from store.redis.headers import HeaderError, parse
from store.redis.lua_source import LuaSource
from store.redis.scripts import script
from store.timelines.append import AppendCode

FOLDER = files("store.redis").joinpath("lua")
FILES = {
    each.name: each.read_text()
    for folder in (FOLDER, FOLDER / "include")
    for each in folder.iterdir()
    if each.is_file()
}

HEADER = """#!lua flags=allow-oom
-- Does something, in plain English.
--
-- include batch outbox
-- guarded
-- KEYS tag holders_prefix (repeat)...
-- ARGV tag:text
--   since:ms (uid:uid joined:id)...
-- REPLY outcome=DONE|UNCHANGED id
-- ERROR EMPTY
"""


def test_what_a_header_says() -> None:
    header = parse("example", HEADER + "\nreturn 1\n")
    assert header.shebang == "#!lua flags=allow-oom\n"
    assert header.includes == ("batch", "outbox")
    assert header.guarded
    assert (header.keys, header.more_keys) == (("tag", "holders_prefix"), ("repeat",))
    assert header.arguments == {"tag": "text", "since": "ms"}
    assert header.more_arguments == {"uid": "uid", "joined": "id"}
    assert (header.reply, header.codes) == (("outcome", "id"), {"outcome": ("DONE", "UNCHANGED")})
    assert header.errors == ("EMPTY",)
    assert header.body == "\nreturn 1\n"


@pytest.mark.parametrize(
    ("changed", "into", "complaint"),
    [
        ("-- guarded", "-- gaurded", "unknown directive 'gaurded'"),
        ("-- KEYS tag holders_prefix (repeat)...\n", "", "lacks KEYS"),
        ("-- ERROR EMPTY", "-- guarded", "guarded twice"),
        ("since:ms", "since", "not a name with one of the units"),
        ("since:ms", "since:parsecs", "not a name with one of the units"),
        ("holders_prefix", "holders-prefix", "'holders-prefix' is no name"),
    ],
)
def test_a_header_that_is_refused(changed: str, into: str, complaint: str) -> None:
    with pytest.raises(HeaderError, match=complaint):
        parse("example", HEADER.replace(changed, into))


@pytest.mark.parametrize("name", FILES)
def test_a_body_uses_names_and_no_places(name: str) -> None:
    """`KEYS[3]` and `ARGV[3]` are what headers are for."""
    body = parse(name, FILES[name]).body
    assert not re.search(r"(KEYS|ARGV)\[\d", body)


@pytest.mark.parametrize("name", FILES)
def test_a_body_uses_all_that_its_header_declares(name: str) -> None:
    header = parse(name, FILES[name])
    used = set(re.findall(r"\w+", re.sub(r"--.*", "", header.body)))
    locals_ = {key if key.endswith("_prefix") else f"{key}_key" for key in header.keys}
    assert (locals_ | header.arguments.keys()) - used == set()
    assert bool(header.more_keys) == ("FIRST_KEY" in used)
    assert bool(header.more_arguments) == ("FIRST_ARGUMENT" in used)


def test_a_call_is_in_the_order_of_the_headers() -> None:
    put = LuaSource("tag_put")
    count, *rest = put.call(
        tag="news",
        title="News",
        followable=1,
        highest_id=8,
        outbox_limit=7,
        window=6,
        caller_time=5,
        tag_key=keys.tag("news"),
    )
    assert rest[:count] == [
        *(keys.BODIES_PREFIX, keys.EPOCH, keys.CLOCK, keys.OUTBOX_BYTES, keys.WINDOW, keys.SHARDS, keys.LINK_BYTES),
        *(keys.DORMANT, keys.INBOX_PREFIX, keys.SEEN, keys.UNSEEN),
        *(keys.LINKS, keys.LINK_PREFIX, keys.AWAY),
        *(keys.OUTBOX, keys.WAKEUPS, keys.tag("news"), keys.TAGS, keys.PROPAGATING),
    ]
    assert rest[count:] == [5, 6, 7, 8, "news", "News", 1]


def test_a_call_that_does_not_fit_is_refused() -> None:
    release = LuaSource("work_leave")
    with pytest.raises(TypeError, match=r"work_leave.lua takes \['group', 'leaving', 'silence', 'stream_key'\]"):
        release.call(stream_key=b"s", group="g", leaving="w")
    with pytest.raises(TypeError, match="not"):
        release.call(stream_key=b"s", group="g", leaving="w", quiet=5)
    with pytest.raises(TypeError, match="1 more keys and 0 more arguments"):
        release.call(stream_key=b"s", group="g", leaving="w", silence=5, more_keys=[b"k"])
    with pytest.raises(TypeError, match="0 more keys and 3 more arguments"):
        LuaSource("outbox_done").call(group="g", more_arguments=["1-0", 64, "2-0"])


class Wrong(NamedTuple):
    more: bool
    changed: int
    looked: int


class Fewer(StrEnum):
    DONE = "DONE"


class Unknowing(NamedTuple):
    outcome: Fewer
    id: int
    links: list[bytes]


def test_a_reply_type_that_does_not_fit_is_refused() -> None:
    with pytest.raises(HeaderError, match=r"replies \('more', 'looked', 'changed'\), and Wrong has"):
        script("tag_propagate", Wrong)
    with pytest.raises(HeaderError, match="a NamedTuple has to name them"):
        script("tag_propagate", int)
    with pytest.raises(HeaderError, match=r"Unknowing.outcome does not know all of \('DONE', 'UNCHANGED', 'PROPAG"):
        script("tag_put", Unknowing)


def test_the_codes_of_append_are_those_of_its_script() -> None:
    assert {*LuaSource("append").header.codes["outcomes"]} == {*AppendCode}


@pytest.mark.parametrize("name", FILES)
def test_a_body_says_the_codes_that_its_header_names(name: str) -> None:
    header = parse(name, FILES[name])
    said = set(re.findall(r"'([A-Z]{2,})\b", header.body))
    for code in (code for codes in header.codes.values() for code in codes):
        assert code in said


@pytest.mark.parametrize("name", FILES)
def test_a_body_refuses_with_the_errors_that_its_header_names(name: str) -> None:
    header = parse(name, FILES[name])
    said = set(re.findall(r"error_reply\('([A-Z]+)", header.body))
    included = {code for each in header.includes for code in parse(each, FILES[f"{each}.lua"]).errors}
    assert {*header.errors} == said | included
