"""`emqx-im tags load` against a running service."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.app import App, new_uid
from tests.integration.tags.requests import change, make, shown, tell, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Ended(NamedTuple):
    status: int | None
    output: str
    error: str


async def load(app: App, directory: Path, content: str, *options: str, token: str = "admin-token") -> Ended:
    file = directory / "users.csv"
    file.write_text(content)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hooks.cli", "tags", "load", str(file), "--url", app.url, *options),
        stdout=PIPE,
        stderr=PIPE,
        cwd=directory,
        env={**os.environ, "IM_ADMIN_TOKEN": token},
    )
    output, error = await process.communicate()
    return Ended(process.returncode, output.decode(), error.decode())


async def test_a_file_is_the_new_set(app: App, tmp_path: Path) -> None:
    tag, users = await make(app), [new_uid() for _ in range(3)]
    await change(app, tag, add=[users[0]], source="profile")
    content = f'name,uid\nann,{users[1]}\n\n"b\nob", {users[2]}\nagain,{users[2]}\n'
    ended = await load(app, tmp_path, content, "--tag", tag, "--source", "profile")
    assert ended == Ended(0, f"{tag}: 2 users hold the tag by profile\n", "")
    await tell(app, tag, "m")
    assert [await told(app, user, tag) for user in users] == [[], ["m"], ["m"]]


async def test_users_of_a_file_are_added(app: App, tmp_path: Path) -> None:
    tag, first, second = await make(app), new_uid(), new_uid()
    await change(app, tag, add=[first])
    many = "\n".join(str(number) for number in range(30_000_000, 30_001_500))
    for added in (1501, 0):
        ended = await load(app, tmp_path, f"{first}\n{second}\n{many}\n", "--tag", tag, "--source", "manual")
        assert ended == Ended(0, f"{tag}: {added} of 1502 users in the file got the tag\n", "")
    assert (await shown(app, tag))["holders"] == 1502


@pytest.mark.parametrize("source", ["manual", "profile"])
async def test_one_malformed_line_spoils_the_file(app: App, tmp_path: Path, source: str) -> None:
    tag, uid = await make(app), new_uid()
    options = ("--tag", tag, "--source", source)
    ended = await load(app, tmp_path, f"uid\n{uid}\nbob\n\n007\n", *options)
    assert (ended.status, ended.output) == (1, "")
    assert f"{tmp_path}/users.csv:3: 'bob' is not a user id\n" in ended.error
    assert f"{tmp_path}/users.csv:5: '007' is not a user id\n" in ended.error
    assert ended.error.endswith("2 lines are malformed, so nothing was loaded; --partial loads the other lines\n")
    assert (await shown(app, tag))["holders"] == 0
    ended = await load(app, tmp_path, f"uid\n{uid}\nbob\n", *options, "--partial")
    assert (ended.status, ended.output.endswith(", 1 lines skipped\n")) == (0, True)
    await tell(app, tag, "m")
    assert await told(app, uid, tag) == ["m"]


@pytest.mark.parametrize(
    ("content", "tag", "token", "said"),
    [
        ("", "x", "admin-token", "names no user"),
        ("uid\n", "x", "admin-token", "names no user"),
        ("7\n", "x", "admin-token", "404: there is no tag x"),
        ("7\n", "a b", "admin-token", "--tag: 'a b'"),
        ("7\n", "x", "wrong", "401: "),
        ("7\n", "x", "", "IM_ADMIN_TOKEN"),
    ],
)
async def test_what_fails_says_why(app: App, tmp_path: Path, content: str, tag: str, token: str, said: str) -> None:
    for source in ("manual", "profile"):
        ended = await load(app, tmp_path, content, "--tag", tag, "--source", source, token=token)
        assert (ended.status, ended.output) == (1, "")
        assert ended.error.startswith("emqx-im: ")
        assert ended.error.count("\n") == 1
        assert said in ended.error


async def test_a_service_that_is_not_there(app: App, tmp_path: Path) -> None:
    ended = await load(app, tmp_path, "7\n", "--tag", "x", "--source", "profile", "--url", "http://127.0.0.1:1")
    assert ended.status == 1
    assert ended.error.startswith("emqx-im: http://127.0.0.1:1: ")
    ended = await load(app, tmp_path, "7\n", "--tag", "x", "--source", "profile", "--url", "")
    assert ended.error == "emqx-im: no emqx-im dev runs in .emqx-im: start it, or pass --url\n"
