"""Both reference clients do what `clients/conformance/` says, on a real broker and a scripted service."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.client.adapters import CLIENTS, Adapter
from tests.integration.client.conformance import Play, cases
from tests.integration.client.scripted import Scripted, scripted

CASES = cases()


@pytest.fixture
async def script() -> AsyncIterator[Scripted]:
    async with scripted() as service:
        yield service


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Adapter]]:
    """One program for each client, for all cases that leave it alive."""
    running: dict[str, Adapter] = {}
    yield running
    for program in running.values():
        program.kill()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES)
async def test_clients_do_what_a_case_says(
    case: str, client: str, script: Scripted, programs: dict[str, Adapter], tmp_path: Path
) -> None:
    def start() -> Adapter:
        programs[client] = CLIENTS[client]()
        return programs[client]

    adapter = programs.get(client) or start()
    try:
        await Play(CASES[case], script, adapter, tmp_path).run(start)
        await programs[client].ask("reset")
        programs[client].events.clear()
    except BaseException:
        programs.pop(client).kill()
        raise
