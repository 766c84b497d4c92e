"""The rate of pulls, and how their answer is written."""

import time
from base64 import b64decode
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.api import pull
from hooks.api.pull import PullRate, render
from store.record import Message
from store.timelines.pull import Pulled

# The rate


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    standing = SimpleNamespace(now=time.monotonic())
    monkeypatch.setattr(pull, "time", SimpleNamespace(monotonic=lambda: standing.now))
    return standing


@pytest.mark.parametrize(("rate", "burst"), [(20.0, 20), (2.5, 2), (1.0, 1), (0.5, 1)])
def test_a_user_may_pull_so_often(clock: SimpleNamespace, rate: float, burst: int) -> None:
    pulls = PullRate(rate)
    assert [pulls.take(1001) for _ in range(burst + 3)] == [True] * burst + [False] * 3
    assert pulls.take(1002), "another user is not concerned"
    clock.now += 1.01 / rate
    assert pulls.take(1001)
    clock.now += 3600
    assert [pulls.take(1001) for _ in range(burst + 1)] == [True] * burst + [False]


def test_users_long_gone_are_forgotten(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "_REMEMBERED_USERS", 2)
    pulls = PullRate(1.0)
    assert [pulls.take(uid) for uid in (1, 2, 3)] == [True] * 3
    assert not pulls.take(3)
    assert len(pulls._buckets) == 2


# The answer


def pulled(*messages: Message, **changed: Any) -> Pulled:
    return Pulled(
        **{
            **{"messages": list(messages), "last_id": 7, "more": False, "truncated": False, "reset": False},
            **{"epoch": "x7Kq", **changed},
        }
    )


def message(payload: bytes, **changed: Any) -> Message:
    plain = Message(1763900000000123, "single/1002", "1001", "01J", 1763900000000, json=True, payload=payload)
    return plain._replace(**changed)


def test_an_empty_answer() -> None:
    answer = orjson.loads(render(pulled(), "key"))
    assert answer == {
        **{"messages": [], "last_id": 7, "more": False, "truncated": False, "epoch": "x7Kq", "key": "key"}
    }
    assert orjson.loads(render(pulled(reset=True), "key"))["reset"] is True


def test_a_message_has_the_fields_clients_read() -> None:
    assert orjson.loads(render(pulled(message(b'{"id":"01J"}')), "key"))["messages"] == [
        {
            **{"last_id": 1763900000000123, "mid": 1763900000000123, "topic": "single/1002", "from": "1001"},
            **{"id": "01J", "qos": 1, "ts": 1763900000000, "payload": {"id": "01J"}},
        }
    ]


@pytest.mark.parametrize(
    "payload",
    [b'{"id":"x"}', b' {\r\n"b" : 1.0e2, "a":12345678901234567890123}\t', '{"a":"\\u00e9é😀","a":1}'.encode(), b"{}"],
)
def test_json_is_returned_as_the_bytes_that_came(payload: bytes) -> None:
    assert b'"payload":%b}' % payload in render(pulled(message(payload)), "key")


@given(st.lists(st.binary()))
def test_anything_else_as_the_same_bytes_in_base64(payloads: list[bytes]) -> None:
    answer = orjson.loads(render(pulled(*(message(payload, json=False) for payload in payloads)), "key"))
    assert [b64decode(entry["payload_b64"]) for entry in answer["messages"]] == payloads


@given(topic=st.text(), sender=st.text(), client_id=st.text())
def test_every_text_is_written_as_json(topic: str, sender: str, client_id: str) -> None:
    written = message(b"{}", topic=topic, sender=sender, client_id=client_id)
    (entry,) = orjson.loads(render(pulled(written), "key"))["messages"]
    assert (entry["topic"], entry["from"], entry["id"]) == (topic, sender, client_id)
