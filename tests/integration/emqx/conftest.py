"""A fake EMQX, and the command as its operator runs it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hooks.emqx.management import Management
from tests.integration.emqx.fake import KEY, SECRET, FakeEmqx

HOOK_TOKEN, JWT_SECRET = "hook-token", "jwt-secret"


class Ran(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
async def emqx() -> AsyncIterator[FakeEmqx]:
    fake = FakeEmqx()
    server = fake.server()
    await server.start_server()
    fake.url = str(server.make_url("")).rstrip("/")
    yield fake
    await server.close()


@pytest.fixture
def run(tmp_path: Path, emqx: FakeEmqx) -> Run:
    """Runs `emqx-im` with these arguments against the fake, in an empty directory; keywords are settings."""

    async def run(*arguments: str, **settings: str) -> Ran:
        environment = {
            "PATH": os.environ["PATH"],
            "IM_EMQX_API_URL": emqx.url,
            "IM_EMQX_API_KEY": KEY,
            "IM_EMQX_API_SECRET": SECRET,
            "IM_HOOK_URL": "http://emqx-im:8080",
            "IM_HOOK_TOKEN": f"{HOOK_TOKEN},older",
            "IM_JWT_SECRET": JWT_SECRET,
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hooks.cli", *arguments),
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
async def api(emqx: FakeEmqx) -> AsyncIterator[Management]:
    async with Management(emqx.url, KEY, SECRET) as management:
        yield management


@pytest.fixture
async def applied(emqx: FakeEmqx, run: Run) -> FakeEmqx:
    """An EMQX that is as it should be."""
    ran = await run("rules", "apply")
    assert ran.status == 0, ran
    return emqx
