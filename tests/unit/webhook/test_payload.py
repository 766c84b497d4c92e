"""Tests which parts of a payload the service reads, which it refuses, and which it leaves alone."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.errors import Refused
from hooks.webhook.payload import MAX_DEPTH, Payload, parse, read

BROKER_ID = "000660F12D0318FDF44500032BA60002"
SENDER = "1001"
MAX_BYTES = 16_384


def read_bytes(payload: bytes, sender: str = SENDER) -> Payload:
    return read(payload, sender, BROKER_ID, MAX_BYTES)


def read_fields(**fields: Any) -> Payload:
    return read_bytes(json.dumps(fields).encode())


def nested(depth: int) -> bytes:
    """Returns a JSON object nested `depth` deep."""
    return b'{"id":"x","body":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


OPAQUE = Payload(json=False, client_id=BROKER_ID, ack=False)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"typing", id="text"),
        pytest.param(b"\xff\x00\x80", id="bytes"),
        pytest.param(b'[{"id":"x"}]', id="array"),
        pytest.param(b'"id"', id="string"),
        pytest.param(b"12", id="number"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"id":"x"', id="cut"),
        pytest.param(b'{"id":"x"} {}', id="two"),
        pytest.param(b'{"id":"x","n":NaN}', id="NaN"),
        pytest.param(b'{"id":"x","n":Infinity}', id="Infinity"),
        pytest.param(b'{"id":"x","n":1e400}', id="number out of range"),
        pytest.param(b'["\\ud800"]', id="lone surrogate in no object"),
        pytest.param(b'{"id":"x","s":"\\ud800","n":NaN}', id="lone surrogate and NaN"),
        pytest.param(b'{"id":"x","s":"\\ud800"', id="lone surrogate, cut"),
        pytest.param(b'{"id":"x","s":"\xed\xa0"}', id="half a lone surrogate"),
        pytest.param(b'{"id":"x","s":"\\ud8"}', id="half an escape"),
        pytest.param(b'{"s":"\\ud800","a":' + nested(MAX_DEPTH) + b"}", id="lone surrogate, one too deep"),
        pytest.param(b'{"id":"x","s":"\xff"}', id="not UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"id":"x"}', id="BOM"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="UTF-16"),
        pytest.param(nested(MAX_DEPTH + 1), id="one too deep"),
        pytest.param(nested(1000), id="deep"),
        pytest.param(b'{"a":' + nested(MAX_DEPTH) + b',"a":1}', id="deep below a key that comes again"),
        pytest.param(b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH, id="deep objects"),
    ],
)
def test_what_is_no_json_object_is_opaque(payload: bytes) -> None:
    assert read_bytes(payload) == OPAQUE
    assert parse(payload) is None


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"id":"x"}', id="plain"),
        pytest.param(b' \r\n\t{"id" : "x"}\n', id="white space"),
        pytest.param(b'{"id":"x","n":123456789012345678901234567890}', id="huge integer"),
        pytest.param(b'{"id":"x","n":1e-400}', id="number below the smallest"),
        pytest.param('{"id":"x","s":"😀\\ud83d\\ude00\\u0000\u2028"}'.encode(), id="odd Unicode"),
        pytest.param(b'{"id":"y","id":"x"}', id="the last of duplicate keys counts"),
        pytest.param(b'{"\\u0069d":"x"}', id="escaped key"),
        pytest.param(nested(MAX_DEPTH), id="just deep enough"),
        pytest.param(b'{"id":"x","s":"' + b"[{" * 1000 + b'"}', id="brackets in a string"),
        pytest.param(b'{"id":"x","s":"' + b'\\"[\\\\' * 500 + b'"}', id="brackets among escapes"),
        pytest.param(b'{"id":"x","a":[' + b",".join([b"[]"] * 1000) + b"]}", id="wide"),
    ],
)
def test_json_objects_are_read(payload: bytes) -> None:
    assert read_bytes(payload) == Payload(json=True, client_id="x", ack=False)


@pytest.mark.parametrize("client_id", ["x", "0", " ", "~" * 64, "01J-a", '"\\', "im.x"])
def test_an_id_of_printable_ascii_is_taken(client_id: str) -> None:
    assert read_fields(id=client_id).client_id == client_id


def test_without_an_id_the_brokers_stands_in() -> None:
    assert read_fields(type="text").client_id == BROKER_ID
    assert read_fields(id=None).client_id == BROKER_ID


@pytest.mark.parametrize("client_id", ["", "x" * 65, "é", "a\nb", "\x7f", "\t", "\u200b", 7, 1.5, True, [], {}])
def test_any_other_id_is_refused(client_id: object) -> None:
    with pytest.raises(Refused) as refused:
        read_fields(id=client_id)
    assert (refused.value.code, refused.value.ref, refused.value.status) == ("bad_id", BROKER_ID, 400)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"type": "im.ack"}, "reserved_type", id="the service's type"),
        pytest.param({"type": "im."}, "reserved_type", id="its prefix alone"),
        pytest.param({"type": ""}, "bad_type", id="empty type"),
        pytest.param({"type": "t" * 65}, "bad_type", id="long type"),
        pytest.param({"type": 7}, "bad_type", id="type a number"),
        pytest.param({"type": ["text"]}, "bad_type", id="type a list"),
        pytest.param({"from": "1002"}, "wrong_from", id="another user"),
        pytest.param({"from": 1002}, "wrong_from", id="another user, a number"),
        pytest.param({"from": "0"}, "wrong_from", id="the service"),
        pytest.param({"from": 0}, "wrong_from", id="the service, a number"),
        pytest.param({"from": "01001"}, "wrong_from", id="leading zero"),
        pytest.param({"from": " 1001"}, "wrong_from", id="space"),
        pytest.param({"from": ""}, "wrong_from", id="empty"),
        pytest.param({"from": 1001.0}, "wrong_from", id="a float"),
        pytest.param({"from": True}, "wrong_from", id="a bool"),
        pytest.param({"from": ["1001"]}, "wrong_from", id="a list"),
    ],
)
def test_forged_and_malformed_fields_are_refused(fields: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        read_fields(id="x", **fields)
    assert (refused.value.code, refused.value.ref) == (code, "x")


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "text"},
        {"type": "t" * 64},
        {"type": "IM.ack"},
        {"type": "image.im."},
        {"type": None},
        {"from": "1001"},
        {"from": 1001},
        {"from": None},
        {"anything": {"else": [1, "two", None]}},
    ],
)
def test_genuine_fields_are_accepted(fields: dict[str, Any]) -> None:
    assert read_fields(id="x", **fields).client_id == "x"


def test_true_as_sender_is_not_one() -> None:
    with pytest.raises(Refused, match="wrong_from"):
        read_bytes(b'{"from":true}', sender="1")


def test_of_duplicate_keys_the_last_is_judged() -> None:
    assert read_bytes(b'{"id":"x","from":"1002","from":"1001"}').client_id == "x"
    with pytest.raises(Refused, match="wrong_from"):
        read_bytes(b'{"id":"x","from":"1001","from":"1002"}')


@pytest.mark.parametrize(
    ("ack", "wanted"), [(True, True), (False, False), (None, False), (1, False), ("true", False), ([], False)]
)
def test_only_true_asks_for_an_answer(ack: object, wanted: bool) -> None:
    assert read_fields(id="x", ack=ack).ack is wanted


def test_the_largest_payload_is_taken_and_one_byte_more_refused() -> None:
    frame = len(b'{"id":"x","body":""}')
    largest = b'{"id":"x","body":"' + b"a" * (MAX_BYTES - frame) + b'"}'
    assert len(largest) == MAX_BYTES
    assert read_bytes(largest).client_id == "x"
    with pytest.raises(Refused) as refused:
        read_bytes(largest + b" ")
    assert (refused.value.code, refused.value.ref) == ("payload_too_large", "x")
    with pytest.raises(Refused) as refused:
        read_bytes(b"\x00" * (MAX_BYTES + 1))
    assert (refused.value.code, refused.value.ref) == ("payload_too_large", BROKER_ID)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(["id", "type", "from", "ack", "body"]), VALUES)


@given(payload=st.binary(max_size=64) | OBJECTS.map(lambda fields: json.dumps(fields).encode()))
def test_whatever_comes_is_read_or_refused(payload: bytes) -> None:
    try:
        result = read_bytes(payload)
    except Refused:
        return
    assert result.client_id.isascii()
    assert result.client_id.isprintable()
    if result.json:
        assert isinstance(orjson.loads(payload), dict)
    else:
        assert result == OPAQUE


@given(payload=OBJECTS.map(lambda fields: json.dumps(fields, ensure_ascii=False).encode(errors="replace")))
def test_an_opaque_payload_is_what_the_json_reader_does_not_take(payload: bytes) -> None:
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        assert parse(payload) is None
    else:
        assert parse(payload) is not None


@pytest.mark.parametrize(
    ("payload", "ref"),
    [
        (b'{"id":"x","s":"\\ud800"}', "x"),
        (b'{"id":"x","s":"\\uDC00"}', "x"),
        (b'{"id":"x","s":"\\udbff\\ud83d\\ude00"}', "x"),
        (b'{"id":"x","s":"\\ude00\\ud83d"}', "x"),
        (b'{"id":"x","s":"\\\\\\ud800"}', "x"),
        (b'{"id":"x","s":"\xed\xa0\x80"}', "x"),
        (b'{"id":"x","s":"\xed\xa0\xbd\xed\xb8\x80"}', "x"),
        (b'{"id":"x","\\ud800":1}', "x"),
        (b'{"id":"\\ud800"}', ""),
        (b'{"id":5,"s":"\\ud800"}', ""),
        (b'{"s":"\\ud800"}', ""),
    ],
)
def test_what_only_a_lone_surrogate_keeps_from_being_json_is_refused(payload: bytes, ref: str) -> None:
    with pytest.raises(Refused) as refused:
        read_bytes(payload)
    assert (refused.value.code, refused.value.ref) == ("bad_json", ref)


@pytest.mark.parametrize("text", ["\\\\ud800", "\\ud83d\\ude00", "\\u00e9", "\\uD83D\\uDE00", "\\\\\\\\ud800"])
def test_what_looks_like_a_lone_surrogate_is_read(text: str) -> None:
    assert read_bytes(b'{"id":"x","s":"%b"}' % text.encode()).json


SURROGATES = st.text(st.sampled_from('a\\"\ud800\udbff\udc00\udfff\U0001f600u'), max_size=6)


@given(st.dictionaries(st.sampled_from(["a", "b"]) | SURROGATES, SURROGATES), st.booleans())
def test_json_with_surrogates_is_read_or_refused_and_never_opaque(fields: dict[str, str], escaped: bool) -> None:
    payload = json.dumps(fields, ensure_ascii=escaped).encode(errors="surrogatepass")
    # Two escapes that stand together are one character, whatever they were before.
    read = json.loads(payload)
    alone = any("\ud800" <= character <= "\udfff" for text in (*read, *read.values()) for character in text)
    if alone:
        with pytest.raises(Refused, match="bad_json"):
            read_bytes(payload)
    else:
        assert read_bytes(payload).json
