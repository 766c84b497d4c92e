"""Whatever a device pulled, and when: what is unread on it is what messages and read marks say, in both clients."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emqx_im_client.events import Message, Received, Settled
from emqx_im_client.events import live as live_message
from emqx_im_client.inbox import Inbox
from emqx_im_client.pull import page_of
from emqx_im_client.state import MemoryState
from tests.integration.client.unread_model import OWN, play, steps
from tests.node import javascript, node

Steps = list[tuple[str, str, int]]


@given(steps, st.booleans())
def test_python_devices_come_to_what_messages_and_marks_say(taken: Steps, live: bool) -> None:
    unread, devices = play(taken)
    for pages in devices:
        assert asyncio.run(_unread_in_python(pages, live=live)) == unread


async def _unread_in_python(pages: list[dict[str, Any]], *, live: bool) -> dict[str, int]:
    """live: what a page brings was heard and read while the page was on its way."""
    inbox = Inbox(OWN, MemoryState())
    end = Settled("end", "", 0)

    async def read() -> None:
        inbox.tell(end)
        while await inbox.next() != end:
            pass

    for page in pages:
        for entry in page["messages"] if live else ():
            if "payload" in entry and entry["from"] not in (OWN, "0"):
                inbox.offer(Received(heard(entry), confirmed=False))
        await read()
        await inbox.take(page_of(page))
    await read()
    return inbox.kept.unread()


def heard(entry: dict[str, Any]) -> Message:
    payload = json.dumps({**entry["payload"], "id": entry["id"], "from": entry["from"]})
    return live_message(entry["topic"], payload.encode(), 1)


@pytest.fixture(scope="module")
def books() -> Iterator["subprocess.Popen[bytes]"]:
    """A program that keeps pages as the JavaScript client does."""
    pipe = subprocess.PIPE
    command = [node(), str(javascript() / "test" / "unread.mjs")]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as program:
        yield program
        program.kill()


@settings(deadline=None)
@given(taken=steps, live=st.booleans())
def test_javascript_devices_come_to_what_messages_and_marks_say(
    books: "subprocess.Popen[bytes]",
    taken: Steps,
    live: bool,
) -> None:
    assert books.stdin is not None
    assert books.stdout is not None
    unread, devices = play(taken)
    for pages in devices:
        books.stdin.write(json.dumps({"uid": OWN, "pages": pages, "live": live}).encode() + b"\n")
        books.stdin.flush()
        assert json.loads(books.stdout.readline()) == unread
