"""Both reference clients do what `clients/conformance/` says, on a real broker and a scripted service."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.client.adapters import CLIENTS
from tests.integration.client.conformance import Play, Programs, cases
from tests.integration.client.scripted import Scripted, scripted

CASES = cases()


@pytest.fixture
async def script() -> AsyncIterator[Scripted]:
    async with scripted() as service:
        yield service


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    running = Programs()
    yield running
    running.close()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES)
async def test_clients_do_what_a_case_says(
    case: str, client: str, script: Scripted, programs: Programs, tmp_path: Path
) -> None:
    await programs.play(client, lambda adapter: Play(CASES[case], script, adapter, tmp_path))
