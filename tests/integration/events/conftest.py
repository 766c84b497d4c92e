"""A back end, and what delivers events to it, for tests that need no service around."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.events.back_end import BackEnd, running_back_end


@pytest.fixture
async def back_end() -> AsyncIterator[BackEnd]:
    async with running_back_end() as end:
        yield end
