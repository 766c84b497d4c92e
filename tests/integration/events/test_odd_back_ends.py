"""Whatever a back end answers, a batch is taken or it is not, and nothing of its address is told."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.events.receiver import Receiver, ReceiverAway, ReceiverGone
from hooks.events.render import render
from store.events.kinds import EventKind
from store.events.queues import OTHERS, QueueEntry
from store.record import Message, encode
from tests.integration.events.back_end import SECRET, BackEnd
from tests.stream_server import stream_server

PASSWORD = "pAssw0rd7Of9The3End"
_LONG = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

_STATUS = st.sampled_from([200, 204, 299, 100, 101, 103, 199, 300, 302, 304, 404, 410, 429, 500, 999, 0, -1, 10**6])
_HEADERS = st.lists(
    st.sampled_from(
        [
            *(b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: x", b"Content-Length: 5, 6"),
            *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Encoding: gzip"),
            *(
                b"Location: http://127.0.0.1:1/",
                b"Location: \xff",
                b"Set-Cookie: \xff=\xfe",
                b": x",
                b"x",
                b"\xff: \xff",
            ),
            *(b"Connection: upgrade", b"Upgrade: websocket", b"Retry-After: -1", b"X: " + b"x" * 100_000),
        ]
    ),
    max_size=3,
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    head = [f"HTTP/1.1 {draw(_STATUS)} x".encode(), *draw(_HEADERS)]
    return b"\r\n".join([*head, b"", draw(st.binary(max_size=20))])


@asynccontextmanager
async def back_end_that_says(answer: bytes) -> AsyncIterator[str]:
    """Gives the address of a server that answers any request with these bytes, and ends the connection."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with stream_server(say) as port:
        yield f"http://im:{PASSWORD}@127.0.0.1:{port}/events"


@given(answer=answers() | st.binary(max_size=60))
@_LONG
async def test_any_answer_is_one_of_three(answer: bytes) -> None:
    async with back_end_that_says(answer) as url:
        receiver = Receiver(url, SECRET, seconds=5)
        said = await what_came_of(receiver)
        await receiver.close()
    if said == "taken":
        assert answer.startswith(b"HTTP/1.")
        assert answer.split(b" ", 2)[1].startswith(b"2")
    elif said == "gone":
        assert b" 410 " in answer
    else:
        assert PASSWORD not in said


async def what_came_of(receiver: Receiver) -> str:
    """Returns "taken", "gone", or all that is told of a back end that did not take a batch."""
    try:
        await receiver.deliver([b"{}"])
    except ReceiverAway as error:
        return f"{error} {error.reason} {error.__cause__}"
    except ReceiverGone:
        return "gone"
    return "taken"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_PAYLOADS = st.dictionaries(st.text(max_size=5), _JSON, max_size=4).map(orjson.dumps) | st.binary(max_size=40).map(
    b"\0".__add__
)


@given(payloads=st.lists(_PAYLOADS, min_size=1, max_size=5))
@_LONG
async def test_whatever_users_send_arrives_signed(back_end: BackEnd, payloads: list[bytes]) -> None:
    messages = [
        Message(mid, "single/2", "1", f"m{mid}", 0, json=payload.startswith(b"{"), payload=payload)
        for mid, payload in enumerate(payloads, 1)
    ]
    entry = QueueEntry(OTHERS, "1-0", EventKind.MESSAGE_STORED, list(map(encode, messages)))
    receiver, before = Receiver(back_end.url, SECRET), len(back_end.events)
    try:
        await receiver.deliver(render(entry))
    finally:
        await receiver.close()
    for event, message in zip(back_end.events[before:], messages, strict=True):
        if message.json:
            assert event["payload"] == orjson.loads(message.payload)
        else:
            assert b64decode(event["payload_b64"]) == message.payload
