"""Whatever a device pulled, and when: what is unread on it is what messages and read marks say, in both clients."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from emqx_im_client.events import Settled
from emqx_im_client.inbox import Inbox
from emqx_im_client.pull import page_of
from emqx_im_client.state import MemoryState
from tests.integration.client.unread_model import OWN, play, steps
from tests.node import javascript, node

Steps = list[tuple[str, str, int]]


@given(steps)
def test_python_devices_come_to_what_messages_and_marks_say(taken: Steps) -> None:
    unread, devices = play(taken)
    for pages in devices:
        assert asyncio.run(_unread_in_python(pages)) == unread


async def _unread_in_python(pages: list[dict[str, Any]]) -> dict[str, int]:
    inbox = Inbox(OWN, MemoryState())
    for page in pages:
        await inbox.take(page_of(page))
    end = Settled("end", "", 0)
    inbox.tell(end)
    while await inbox.next() != end:
        pass
    return inbox.kept.unread()


@pytest.fixture(scope="module")
def books() -> Iterator["subprocess.Popen[bytes]"]:
    """A program that keeps pages as the JavaScript client does."""
    pipe = subprocess.PIPE
    command = [node(), str(javascript() / "test" / "unread.mjs")]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as program:
        yield program
        program.kill()


@settings(deadline=None)
@given(taken=steps)
def test_javascript_devices_come_to_what_messages_and_marks_say(books: "subprocess.Popen[bytes]", taken: Steps) -> None:
    assert books.stdin is not None
    assert books.stdout is not None
    unread, devices = play(taken)
    for pages in devices:
        books.stdin.write(json.dumps({"uid": OWN, "pages": pages}).encode() + b"\n")
        books.stdin.flush()
        assert json.loads(books.stdout.readline()) == unread
