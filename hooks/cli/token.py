"""Implements `emqx-im token`: makes a JWT for trying out, and finds its secret."""

import sys
import time
from pathlib import Path
from typing import Annotated

import jwt
import typer

from hooks.dev.directory import DEFAULT_DIRECTORY, find_running
from hooks.settings import UserTokenSettings, load
from store.addresses import number

DAY = 24 * 3600


def token(
    uid: str = typer.Option("", help="User id, from 1 to 2^53-1."),
    username: str = typer.Option("", help="Username of an operator's tool, instead of --uid."),
    ttl: int = typer.Option(DAY, min=1, help="Seconds until the token expires."),
    data_dir: Annotated[Path, typer.Option(help="Data directory of the running `emqx-im dev`.")] = DEFAULT_DIRECTORY,
) -> None:
    """Print a token, which the broker accepts as MQTT password and the pull as bearer token."""
    if bool(uid) == bool(username):
        sys.exit("emqx-im: pass either --uid or --username")
    typer.echo(mint(str(checked_uid(uid)) if uid else username, jwt_secret(data_dir), ttl))


def mint(username: str, secret: str, ttl: int) -> str:
    now = int(time.time())
    return jwt.encode({"sub": username, "iat": now, "exp": now + ttl}, secret, "HS256")


def checked_uid(uid: str) -> int:
    """Ends the program with one line if it is none."""
    value = number(uid)
    if value is None:
        sys.exit(f"emqx-im: --uid: {uid!r} is not a decimal number from 1 to 2^53-1 without leading zeros")
    return value


def jwt_secret(data_dir: Path) -> str:
    """Returns IM_JWT_SECRET, else that of the `emqx-im dev` in the directory; ends the program if there is neither."""
    if given := load(UserTokenSettings).jwt_secret:
        return given
    running = find_running(data_dir)
    if running is None:
        sys.exit(f"emqx-im: IM_JWT_SECRET is not set, and no emqx-im dev runs in {data_dir} (--data-dir)")
    return running.secrets.jwt_secret
