"""Implements `emqx-im chat`: the reference client as a command."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from hooks.cli.token import checked_uid, jwt_secret, mint
from hooks.dev.directory import DEFAULT_DIRECTORY, find_running
from hooks.mqtt_address import MqttAddress, mqtt_address

_TOKEN_SECONDS = 3600


def chat(
    uid: str = typer.Option(..., help="Your user id."),
    to: str = typer.Option("", help="Where your lines go: a uid, or a topic such as group/7."),
    data_dir: Annotated[
        Path, typer.Option(help="Data directory of the running `emqx-im dev`; the chat is kept there too.")
    ] = DEFAULT_DIRECTORY,
    mqtt: str = typer.Option("", help="Another broker, as HOST:PORT or mqtts://HOST:PORT."),
    url: str = typer.Option("", help="Another service, as http://HOST:PORT."),
    token: str = typer.Option("", envvar="IM_TOKEN", help="Your JWT; without it one is made with IM_JWT_SECRET."),
    trusted_send: bool = typer.Option(
        False,
        "--trusted-send",
        envvar="IM_TRUSTED_SEND",
        help="Use this if service and broker run with IM_TRUSTED_SEND.",
    ),
    wait: float = typer.Option(60, min=0, help="Seconds to wait for answers after the last line."),
) -> None:
    """Send and receive messages, one on each line. ✓ is stored, ✗ is refused, dim is not confirmed by a pull yet."""
    # Imported here, because the other commands do not need the client, and start sooner without it.
    try:
        from emqx_im_client import Broker, Device, DeviceError, FileState
    except ModuleNotFoundError as error:
        if error.name != "emqx_im_client":
            raise
        sys.exit(
            "emqx-im: chat needs the reference client: pip install emqx-im-client, or clients/python of the sources"
        )

    from hooks.cli.chat.conversation import Conversation
    from hooks.cli.chat.states import topic_of

    user = checked_uid(uid)
    topic = topic_of(to) if to else ""
    if topic is None:
        sys.exit(f"emqx-im: --to: {to!r} is neither a uid nor a topic")
    if token and token.count(".") != 2:
        sys.exit("emqx-im: --token: this is not a JWT")
    broker, service, trusted = _addresses(data_dir, mqtt, url)
    secret = "" if token else jwt_secret(data_dir)
    try:
        state = FileState(data_dir / "chat" / f"{user}.json")
        device = Device(
            user,
            lambda: token or mint(str(user), secret, _TOKEN_SECONDS),
            Broker(*broker),
            service,
            state,
            clientid=f"chat-{state.saved.device}",
            trusted_send=trusted_send or trusted,
        )
        succeeded = asyncio.run(Conversation(device, topic, wait).run())
    except (DeviceError, OSError) as error:
        sys.exit(f"emqx-im: {error}")
    raise typer.Exit(0 if succeeded else 1)


def _addresses(data_dir: Path, mqtt: str, url: str) -> tuple[MqttAddress, str, bool]:
    """Returns what was given, else the addresses of the running `emqx-im dev`, and whether that has trusted sending.

    Ends the program if there is neither.
    """
    if mqtt and url:
        return mqtt_address(mqtt), url, False
    running = find_running(data_dir)
    if running is None:
        sys.exit(f"emqx-im: no emqx-im dev runs in {data_dir}: start it, or pass --mqtt and --url")
    mqtt = mqtt or f"127.0.0.1:{running.ports.mqtt_port}"
    url = url or f"http://127.0.0.1:{running.ports.http_port}"
    return mqtt_address(mqtt), url, running.trusted_send
