"""Trusted sending: what `deliver.sql` passes on as JSON is JSON that every client reads, and reads alike."""

import json
from base64 import b64decode
from importlib.resources import files
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hooks.dev import values
from hooks.dev.rules import EvaluatedRules

RULES = EvaluatedRules.load(files("hooks") / "rules", trusted_send=True)
EVENT = {
    "event": "message.publish",
    "id": "000660F288F135C5F445000018320002",
    "topic": "send/single/1002",
    "username": "1001",
    "qos": 1,
    "publish_received_at": 1795444656125,
}


def delivered(payload: bytes) -> dict[str, Any]:
    """Returns what a receiver hears."""
    (copy,) = RULES.copies({**EVENT, "payload": payload})
    heard: dict[str, Any] = orjson.loads(copy.payload)
    assert json.loads(copy.payload) == heard
    assert heard["from"] == "1001"
    return heard


def lenient(key: str, payload: bytes) -> Any:
    """Reads more than EMQX's parser does: raw control characters, NaN, lone surrogates, numbers of any size."""
    try:
        fields = json.loads(payload.decode(), strict=False)
    except (ValueError, RecursionError):
        return None
    return fields.get(key) if isinstance(fields, dict) else None


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":"01890f3e-4e21-7cc3-98c4-dc0c0c07398f","type":"text","body":{"text":"hi"}}',
        '{"id": "01J9Z3", "body": {"text": "Hej, er du her? 5 km \\u00e6 \\ud7ff 你好 😀", "n": [1, -2.5]}}'.encode(),
        b'{"id":"1","at":176390000000012,"body":"2e8f \\"quoted\\" \\\\ (7e-4)"}',
        b'{"id":"1","body":' + b"[" * 127 + b"]" * 127 + b"}",
        b'{\r\n\t"id": "12345678901234567890",\n\t"body": [true, null, -999999999999999.123456789012345]\n}\n',
        b'{"id":"1","body":"NaN, Infinity, 1e400 and \\\\ud800"}',
    ],
)
def test_what_clients_send_is_passed_on_as_it_is(payload: bytes) -> None:
    heard = delivered(payload)
    assert heard["message"] == json.loads(payload)


ODD = {
    "no JSON": b"hello",
    "not an object": b'[{"id": "1"}]',
    "deep": b'{"id":"1","body":' + b"[" * 128 + b"]" * 128 + b"}",
    "very deep": b'{"id":"1","body":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "wide": b'{"id":"1","body":[' + b"[]," * 128 + b"0]}",
    "above 2^53": b'{"id":"1","body":1763900000000123}',
    "400 digits": b'{"id":"1","body":' + b"9" * 400 + b"}",
    "long fraction": b'{"id":"1","body":0.1000000000000000055}',
    "exponent": b'{"id":"1","body":1e400}',
    "negative exponent": b'{"id":"1","body":[-2.5E-7]}',
    "exponent without digits": b'{"id":"1","body": 1e+}',
    "high surrogate": b'{"id":"1","body":"\\ud800"}',
    "low surrogate": b'{"id":"1","body":"\\uDFFF"}',
    "surrogates of a pair": b'{"id":"1","body":"\\uD83D\\uDE00"}',
    "surrogate in a key": b'{"id":"1","\\uDabc":0}',
    "NaN": b'{"id":"1","body":NaN}',
    "Infinity": b'{"id":"1","body":[1,-Infinity]}',
    "a raw line break in a string": b'{"id":"1","body":"a\nb"}',
    "a raw carriage return in a string": b'{"id":"1","body":"a\rb"}',
    "a raw tab in a string": b'{"id":"1","body":"a\tb"}',
    "NUL": b'{"id":"1","body":"a\x00b"}',
    "no UTF-8": b'{"id":"1","body":"\xff"}',
    "a surrogate as UTF-8": b'{"id":"1","body":"\xed\xa0\x80"}',
    "a second value": b'{"id":"1"}{"id":"2"}',
    "an end of the JSON around it": b'{"id":"1"},"from":"1"',
}


@pytest.mark.parametrize("name", ODD)
def test_what_some_parsers_refuse_travels_as_base64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = delivered(ODD[name])
    assert "message" not in heard
    assert b64decode(heard["message_b64"]) == ODD[name]


_TEXT = st.text(max_size=8) | st.sampled_from(["\\ud83d", "a\nb", "NaN", "1e5", "9" * 16, ": 5e7", "\x7f"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.integers(-9, 9) | st.floats(width=32) | st.floats() | _TEXT
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4), max_leaves=12
)
_OBJECTS = st.fixed_dictionaries({"id": _TEXT, "body": _VALUES}).flatmap(
    lambda value: st.builds(
        json.dumps,
        st.just(value),
        ensure_ascii=st.booleans(),
        indent=st.sampled_from([None, 1]),
        separators=st.sampled_from([None, (",", ":"), (" ,", " : ")]),
    )
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Returns an object's text, often with a piece taken out, put in twice, or exchanged."""
    text = draw(_OBJECTS).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        begin, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        odd = [b"\n", b"\\ud812", b"1E9", b"NaN", b'"', b"9" * 16]
        pieces = [b"", text[begin:end] * 2, draw(st.binary(max_size=3)), *odd]
        text = text[:begin] + draw(st.sampled_from(pieces)) + text[end:]
    return text


@given(payloads())
@example(b'{"id":"1","body":[-1.5e3]}')
@example(b'{"id":"1","a":1,"a":2}')
@example(b'{"id":"1","body":-0}')
def test_what_travels_as_json_is_read_alike(payload: bytes) -> None:
    with pytest.MonkeyPatch.context() as patched:
        # EMQX's reader may be a lenient one: what the rule looks for besides must be enough.
        patched.setitem(values.FUNCTIONS, "map_get", (lenient, (2,)))
        rules = EvaluatedRules.load(files("hooks") / "rules", trusted_send=True)
    (copy,) = rules.copies({**EVENT, "payload": payload})
    heard = orjson.loads(copy.payload)
    strict = json.loads(copy.payload)
    assert repr(heard) == repr(strict)
    assert set(heard) - {"from", "guid", "ts"} in ({"message"}, {"message_b64"})
    if "message" in heard:
        assert repr(orjson.loads(payload)) == repr(json.loads(payload)) == repr(heard["message"])
    else:
        assert b64decode(heard["message_b64"]) == payload
