"""Implements `emqx-im dev`: broker, service and store in one process; nothing else is needed."""

import asyncio
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

if TYPE_CHECKING:
    from hooks.dev.directory import Ports
    from hooks.dev.stack import DevOptions


def dev(
    data_dir: Annotated[Path, typer.Option(help="Directory in which everything is kept.")] = Path(".emqx-im"),
    http_port: int = typer.Option(
        8080, min=0, max=65535, envvar="IM_HTTP_PORT", help="Port of the service; 0 takes a free one."
    ),
    mqtt_port: int = typer.Option(1883, min=0, max=65535, help="Port of MQTT over TCP; 0 takes a free one."),
    ws_port: int = typer.Option(8083, min=0, max=65535, help="Port of MQTT over WebSocket, /mqtt; 0 takes a free one."),
    api_port: int = typer.Option(18083, min=0, max=65535, help="Port of EMQX's REST API; 0 takes a free one."),
) -> None:
    """Run everything on this machine, for trying out: broker, service, Valkey and archive."""
    try:
        from hooks.dev import EmbeddedError
        from hooks.dev.stack import DevOptions
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(("hooks", "store")):
            raise
        sys.exit(f"emqx-im dev: {error.name} is missing: pip install 'emqx-im[embedded]'")
    try:
        uvloop.run(_dev(DevOptions(data_dir, http_port, mqtt_port, ws_port, api_port)))
    except EmbeddedError as error:
        sys.exit(f"emqx-im dev: {error}")


async def _dev(options: "DevOptions") -> None:
    from hooks.dev.stack import run

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    def announce(host: str, ports: "Ports", code: str | None) -> None:
        typer.echo(
            f"ready http=http://{host}:{ports.http_port} mqtt=mqtt://{host}:{ports.mqtt_port}"
            f" ws=ws://{host}:{ports.ws_port}/mqtt api=http://127.0.0.1:{ports.api_port}"
        )
        if sys.stdout.isatty():
            typer.echo(_greeting(host, ports, options.data_dir, code))
        sys.stdout.flush()

    await run(options, stop, announce)


def _greeting(host: str, ports: "Ports", data_dir: Path, code: str | None) -> str:
    """Returns what a person at a terminal wants to know beside the `ready` line, which is for programs."""
    from hooks.dev.directory import DEFAULT_DIRECTORY

    # As this command was called, so that it can be copied whether or not it is in the PATH.
    command = shlex.quote(sys.argv[0])
    secrets = data_dir / "secrets.json"
    console = f"http://{host}:{ports.http_port}/console/"
    link = (
        "off, see the log"
        if code is None
        else f"{console}#once={code}  (logs in once; later: admin_token in {secrets})"
    )
    directory = "" if data_dir == DEFAULT_DIRECTORY else f" --data-dir {shlex.quote(str(data_dir))}"
    return f"""
emqx-im runs on this machine and keeps everything in {data_dir}:
  MQTT         mqtt://{host}:{ports.mqtt_port}
  WebSocket    ws://{host}:{ports.ws_port}/mqtt
  HTTP         http://{host}:{ports.http_port}  (/pull for clients, /admin for operators)
  console      {link}
  broker API   http://127.0.0.1:{ports.api_port}  (as EMQX's)

Let two users talk: run each of these commands in its own terminal, in this directory, and type.
  {command} chat --uid 1001 --to 1002{directory}
  {command} chat --uid 1002 --to 1001{directory}

README.md goes on from there. Ctrl-C stops everything; all messages are kept.
"""
