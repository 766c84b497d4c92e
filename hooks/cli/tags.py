"""Implements `emqx-im tags load`: gives a tag to the users of a CSV file, through the service's admin API.

The service does the writing, so that its scripts, limits and memory are the only ones. The command needs its address
and the admin token, and neither Redis nor a database.
"""

import csv
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import aiohttp
import orjson
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hooks.dev.directory import DEFAULT_DIRECTORY, find_running
from hooks.settings import AdminSettings, BrokerSettings
from hooks.settings import load as load_settings
from store.addresses import number, tag_named

app = typer.Typer(help="Give tags to users.", no_args_is_help=True)

_MAX_SHOWN = 20
"""Malformed lines that are shown."""
_AT_ONCE = 1000
"""Users of one request, or of one piece of a streamed one."""


class HolderSource(StrEnum):
    manual = "manual"
    profile = "profile"


class Users(NamedTuple):
    """The uids of a file. uids: in its order, each once. wrong: line number and what is wrong with it."""

    uids: Sequence[int]
    wrong: Sequence[tuple[int, str]]


class LoadFailed(Exception):
    """Ends the command with one line."""


@app.callback()
def _group() -> None:
    pass


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="CSV file with the uid in the first column, or in the column `uid`.")],
    tag: str = typer.Option(..., help="The tag; it has to exist."),
    source: HolderSource = typer.Option(
        ..., help="`profile`: the file is the whole set of holders by profile. `manual`: the users are added."
    ),
    partial: bool = typer.Option(False, "--partial", help="Load the valid lines of a file that has malformed ones."),
    url: str = typer.Option(
        "", help="Address of the service, if it is neither IM_HOOK_URL nor a running `emqx-im dev`."
    ),
    data_dir: Annotated[Path, typer.Option(help="Data directory of the running `emqx-im dev`.")] = DEFAULT_DIRECTORY,
) -> None:
    """Give a tag to the users in a CSV file, all or none of them; run it again if it was interrupted."""
    if tag_named(tag) is None:
        sys.exit(f"emqx-im: --tag: {tag!r} is not 1 to 64 of A-Z a-z 0-9 _ . -")
    users = _read(file)
    for line, what in users.wrong[:_MAX_SHOWN]:
        typer.echo(f"{file}:{line}: {what}", err=True)
    if users.wrong and not partial:
        sys.exit(
            f"emqx-im: {len(users.wrong)} lines are malformed, so nothing was loaded; --partial loads the other lines"
        )
    if not users.uids:
        sys.exit(f"emqx-im: {file} names no user; nothing was loaded")
    address, token = _service(url, data_dir)
    try:
        said = uvloop.run(_load(address, token, tag, source, users.uids))
    except LoadFailed as error:
        sys.exit(f"emqx-im: {error}")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        sys.exit(f"emqx-im: {address}: {error or type(error).__name__}; run it again")
    except KeyboardInterrupt:
        sys.exit("emqx-im: interrupted; run it again")
    skipped = f", {len(users.wrong)} lines skipped" if users.wrong else ""
    typer.echo(f"{tag}: {said}{skipped}")


def _read(file: Path) -> Users:
    """Ends the program with one line if the file cannot be read."""
    uids: dict[int, None] = {}
    wrong: list[tuple[int, str]] = []
    column = 0
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = csv.reader(opened)
            for row in rows:
                if rows.line_num == 1 and "uid" in (names := [cell.strip().lower() for cell in row]):
                    column = names.index("uid")
                elif any(cell.strip() for cell in row):
                    cell = row[column].strip() if column < len(row) else ""
                    if (uid := number(cell)) is None:
                        wrong.append((rows.line_num, f"{cell[:40]!r} is not a user id"))
                    else:
                        uids[uid] = None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        sys.exit(f"emqx-im: {file}: {error}")
    return Users(list(uids), wrong)


def _service(url: str, data_dir: Path) -> tuple[str, str]:
    """Returns the service's address and admin token, from the settings or the running `emqx-im dev`.

    Ends the program if there is neither.
    """
    url = url or load_settings(BrokerSettings).hook_url or ""
    if url:
        return url.rstrip("/"), load_settings(AdminSettings).admin_token
    running = find_running(data_dir)
    if running is None:
        sys.exit(f"emqx-im: no emqx-im dev runs in {data_dir}: start it, or pass --url")
    return f"http://127.0.0.1:{running.ports.http_port}", running.secrets.admin_token


async def _load(address: str, token: str, tag: str, source: HolderSource, uids: Sequence[int]) -> str:
    """Returns what was done. Raises LoadFailed, aiohttp.ClientError, OSError."""
    columns = (TextColumn(tag), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    headers = {"Authorization": f"Bearer {token}"}
    users = f"{address}/admin/tags/{quote(tag)}/users"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(tag, total=len(uids))
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

            async def lines() -> AsyncIterator[bytes]:
                for some in _parts(uids):
                    yield b"".join(b"%d\n" % uid for uid in some)
                    progress.advance(bar, len(some))

            if source is HolderSource.profile:
                async with session.put(f"{users}?source=profile", data=lines()) as answer:
                    await _check(answer)
                return f"{len(uids)} users hold the tag by profile"
            added = 0
            for some in _parts(uids):
                body = orjson.dumps({"add": some, "source": source.value})
                async with session.post(users, data=body) as answer:
                    added += (await _check(answer))["added"]
                progress.advance(bar, len(some))
            return f"{added} of {len(uids)} users in the file got the tag"


async def _check(answer: aiohttp.ClientResponse) -> Any:
    """Returns the answer's JSON, if it has any. Raises LoadFailed."""
    raw = await answer.read()
    if answer.status in (200, 204):
        return orjson.loads(raw) if raw else None
    try:
        said = orjson.loads(raw)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = raw[:200].decode(errors="replace")
    raise LoadFailed(f"{answer.status}: {said}" + ("; run it again" if answer.status >= 500 else ""))


def _parts(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (uids[start : start + _AT_ONCE] for start in range(0, len(uids), _AT_ONCE))
