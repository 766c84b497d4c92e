"""The first programs on the pages for client developers, run as they stand there."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

from tests.e2e.stack import Service, Stack
from tests.e2e.test_messages import pulled
from tests.node import javascript, node, npm

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
JAVASCRIPT_PAGE = Path(__file__).parents[2] / "clients" / "js" / "README.md"
ROOT = Path(__file__).parents[2]


async def test_two_users_run_it_and_hear_each_other(
    shared_stack: Stack, service: Service, user: Callable[[], int], tmp_path: Path
) -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "program.py").write_text(program)
    ann, bob = user(), user()

    async def start(uid: int, to: int) -> Process:
        arguments = (str(uid), str(to), shared_stack.token(uid), str(shared_stack.mqtt_port), shared_stack.url)
        return await asyncio.create_subprocess_exec(
            sys.executable, "program.py", *arguments, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stdout=PIPE
        )

    running = [await start(ann, bob), await start(bob, ann)]
    try:
        heard = await asyncio.gather(_heard(running[0], f"{bob} "), _heard(running[1], f"{ann} "))
        assert heard[0].startswith(f"{bob} {{'text': 'hello from {bob}'}}")
        assert heard[1].startswith(f"{ann} {{'text': 'hello from {ann}'}}")
    finally:
        for process in running:
            process.kill()
            await process.wait()
    assert {entry["from"] for entry in await pulled(service, ann, 2)} == {str(ann), str(bob)}
    assert (tmp_path / f"{ann}.json").exists()


async def test_two_users_run_that_of_the_javascript_package_and_hear_each_other(
    shared_stack: Stack, service: Service, user: Callable[[], int], tmp_path: Path
) -> None:
    """In an empty directory, with the package as `npm pack` makes it. Only the ports are those of the test."""
    program, *_ = re.findall(r"^```js\n(.*?)^```$", JAVASCRIPT_PAGE.read_text(), re.DOTALL | re.MULTILINE)
    ports = {"1883": shared_stack.mqtt_port, "8080": shared_stack.http_port}
    (tmp_path / "hello.mjs").write_text(re.sub("|".join(ports), lambda port: str(ports[port[0]]), program))
    packing = ("pack", "--json", "--ignore-scripts", "--pack-destination", str(tmp_path))
    (packed,) = json.loads(npm(*packing, folder=javascript()))
    npm("install", "--no-audit", "--no-fund", str(tmp_path / packed["filename"]), folder=tmp_path)
    ann, bob = user(), user()

    async def start(uid: int, to: int) -> Process:
        arguments = (str(uid), str(to), shared_stack.token(uid))
        return await asyncio.create_subprocess_exec(node(), "hello.mjs", *arguments, cwd=tmp_path, stdout=PIPE)

    running = [await start(ann, bob), await start(bob, ann)]
    try:
        heard = await asyncio.gather(_heard(running[0], f"{bob} "), _heard(running[1], f"{ann} "))
        assert list(heard) == [f"{bob} {{ text: 'hello from {bob}' }}\n", f"{ann} {{ text: 'hello from {ann}' }}\n"]
    finally:
        for process in running:
            process.kill()
            await process.wait()
    assert {entry["from"] for entry in await pulled(service, ann, 2)} == {str(ann), str(bob)}


async def _heard(process: Process, start: str) -> str:
    """Returns the first line of its output that begins so, once another one has reported on its own message."""
    assert process.stdout is not None
    stored, heard = False, ""
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            stored = stored or line.startswith("stored as ")
            if line.startswith(start):
                heard = heard or line
            if stored and heard:
                return heard
    raise AssertionError("it has ended")
