"""`IM_SUBSCRIBE=server`: phones hear their groups without subscribing anything but their own topic."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from tests.e2e.conftest import running
from tests.e2e.stack import Service, Stack
from tests.e2e.test_groups import group, phone, send


@pytest.fixture
def subscribing_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("IM_SUBSCRIBE", "server")
    yield from running(Stack(tmp_path))


async def test_a_phone_hears_the_groups_it_is_in(subscribing_stack: Stack, http: aiohttp.ClientSession) -> None:
    stack, service = subscribing_stack, Service(subscribing_stack, http)
    owner, member = 1001, 1002
    before = await group(service, owner, member, stack=stack)
    clientid = uuid4().hex

    async def says(gid: int) -> None:
        """The owner, again and again: how soon EMQX subscribes the phone is nobody's promise."""
        for _ in range(300):
            await send(stack, owner, f"group/{gid}", f"said-{uuid4().hex}")
            if any(topic == f"group/{gid}" and heard["id"].startswith("said-") for topic, heard in bob.heard):
                return
        raise AssertionError(f"{member} hears nothing of {gid}")

    async with phone(stack, member, clientid, clean_session=False) as bob:
        await says(before)
        during = await group(service, owner, member, stack=stack)
        await says(during)
        assert not [heard for _, heard in bob.heard if heard.get("type") == "im.subscribe"]
    async with phone(stack, member, clientid, clean_session=False) as bob:
        await says(before)
        await says(during)
