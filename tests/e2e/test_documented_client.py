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
from tests.python_package import install_python_client

CLIENTS = Path(__file__).parents[2] / "clients"


async def test_two_users_run_that_of_the_python_package_and_hear_each_other(
    shared_stack: Stack, service: Service, user: Callable[[], int], tmp_path: Path
) -> None:
    """In an empty directory, with the package as it is built. Only the ports are those of the test."""
    (tmp_path / "hello.py").write_text(_program(shared_stack, CLIENTS / "python" / "README.md", "python"))
    installed = install_python_client(tmp_path)
    ann, bob = user(), user()

    async def start(uid: int, to: int) -> Process:
        arguments = (str(uid), str(to), shared_stack.token(uid))
        # Python looks here before it looks for what the tests have installed.
        return await asyncio.create_subprocess_exec(
            sys.executable, "hello.py", *arguments, cwd=tmp_path, env={"PYTHONPATH": str(installed)}, stdout=PIPE
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
    (tmp_path / "hello.mjs").write_text(_program(shared_stack, CLIENTS / "js" / "README.md", "js"))
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


def _program(stack: Stack, page: Path, language: str) -> str:
    """Returns the first program of a page, with the ports of this stack."""
    program, *_ = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    ports = {"1883": stack.mqtt_port, "8080": stack.http_port}
    return re.sub("|".join(ports), lambda port: str(ports[port[0]]), program)


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
