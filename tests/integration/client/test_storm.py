"""All devices at once: after a restart of the broker each asks about all of its groups, and all get through."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from emqx_im_client import link, subscriptions
from tests.integration.client.conftest import device
from tests.integration.client.service import Service

DEVICES = 30
GROUPS = 25


def complete(service: Service) -> bool:
    sessions = {session.client.username: session for session in service.broker.sessions.values()}
    return len(sessions) == DEVICES and all(
        set(topics) <= set(sessions[uid].subscriptions) for uid, topics in service.groups.items()
    )


async def until_complete(service: Service) -> None:
    async with asyncio.timeout(100):
        while not complete(service):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_storm_of_devices_ends_when_the_questions_are_answered(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer takes a fifth of a second when all ask: a packet with all groups takes longer than silence may last."""
    monkeypatch.setattr(link, "KEEPALIVE", 2)
    monkeypatch.setattr(subscriptions, "SECONDS", 1.0)
    service.question_seconds = 0.007
    uids = [str(uid) for uid in range(2001, 2001 + DEVICES)]
    service.groups = {uid: [f"group/{number}" for number in range(GROUPS)] for uid in uids}
    async with AsyncExitStack() as stack:
        for uid in uids:
            await stack.enter_async_context(device(service, int(uid)))
        await until_complete(service)
        first = len(service.questions)
        service.questions.clear()
        await service.stop_broker()
        await service.start_broker()
        await until_complete(service)
    assert first >= DEVICES * GROUPS
    # About once each: a machine that stands still for seconds may cut a connection or two.
    assert first <= 1.2 * DEVICES * GROUPS
    assert len(service.questions) <= 1.2 * DEVICES * GROUPS
