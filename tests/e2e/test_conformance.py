"""Both reference clients do what `clients/conformance/` says, against `emqx-im dev`, as far as it can play that."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import running
from tests.e2e.real_play import Real, RealPlay, playable, real
from tests.e2e.stack import Stack
from tests.integration.client.adapters import CLIENTS, Adapter, python
from tests.integration.client.conformance import Programs, cases

CASES = {name: case for name, case in cases().items() if playable(case)}

_first_uids = itertools.count(200_000, 100)


def test_a_good_part_of_the_cases_is_played() -> None:
    assert len(CASES) >= 25, sorted(CASES)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from running(Stack(tmp_path_factory.mktemp("stack")))


@pytest.fixture
async def service(stack: Stack) -> AsyncIterator[Real]:
    async with real(stack) as running_service:
        yield running_service


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    running_programs = Programs()
    yield running_programs
    running_programs.close()


@pytest.fixture(scope="module")
def drivers() -> Iterator[Adapter]:
    """Devices of those who are not devices of a case."""
    program = python()
    yield program
    program.kill()


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES)
async def test_clients_do_what_a_case_says(
    case: str, client: str, service: Real, programs: Programs, drivers: Adapter, tmp_path: Path
) -> None:
    others: dict[str, Any] = {"first_uid": next(_first_uids), "drivers": drivers}
    await programs.play(client, lambda adapter: RealPlay(CASES[case], service, adapter, tmp_path, **others))
