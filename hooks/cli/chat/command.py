"""`emqx-im chat`: the reference client of emqx-im as a command."""

import asyncio
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from hooks.cli.token import checked_uid, jwt_secret, mint
from hooks.dev.directory import DEFAULT_DIRECTORY, find_running

if TYPE_CHECKING:
    from emqx_im_client import Broker

_TOKEN_SECONDS = 3600


def chat(
    uid: str = typer.Option(..., help="Who you are."),
    to: str = typer.Option("", help="Whom lines go to: a uid, or a topic such as group/7."),
    data_dir: Annotated[
        Path, typer.Option(help="Where `emqx-im dev` runs, and where the chat is kept.")
    ] = DEFAULT_DIRECTORY,
    mqtt: str = typer.Option("", help="Another broker: HOST:PORT, or mqtts://HOST:PORT."),
    url: str = typer.Option("", help="Another service: http://HOST:PORT."),
    token: str = typer.Option("", envvar="IM_TOKEN", help="Your JWT; otherwise one is made with IM_JWT_SECRET."),
    trusted_send: bool = typer.Option(
        False, "--trusted-send", envvar="IM_TRUSTED_SEND", help="Service and broker run with IM_TRUSTED_SEND."
    ),
    wait: float = typer.Option(60, min=0, help="Seconds to wait for answers after the last line."),
) -> None:
    """Send and receive messages: one a line. ✓ is stored, ✗ refused; what a pull has not confirmed yet is dim."""
    # Here, as the other commands need no MQTT and start sooner without.
    from emqx_im_client import Device, DeviceError, FileState

    from hooks.cli.chat.conversation import Conversation, topic_of

    user = checked_uid(uid)
    topic = topic_of(to) if to else ""
    if topic is None:
        sys.exit(f"emqx-im: --to: {to!r} is neither a uid nor a topic")
    if token and token.count(".") != 2:
        sys.exit("emqx-im: --token: that is not a JWT")
    broker, service, trusted = _addresses(data_dir, mqtt, url)
    secret = "" if token else jwt_secret(data_dir)
    try:
        state = FileState(data_dir / "chat" / f"{user}.json")
        device = Device(
            user,
            lambda: token or mint(str(user), secret, _TOKEN_SECONDS),
            broker,
            service,
            state,
            clientid=f"chat-{state.saved.device}",
            trusted_send=trusted_send or trusted,
        )
        succeeded = asyncio.run(Conversation(device, topic, wait).run())
    except (DeviceError, OSError) as error:
        sys.exit(f"emqx-im: {error}")
    raise typer.Exit(0 if succeeded else 1)


def _addresses(data_dir: Path, mqtt: str, url: str) -> "tuple[Broker, str, bool]":
    """As given, else those of the running `emqx-im dev`, and whether it trusts in what it delivers.

    Ends the program where there is neither.
    """
    if mqtt and url:
        return broker_at(mqtt), url, False
    running = find_running(data_dir)
    if running is None:
        sys.exit(f"emqx-im: no emqx-im dev runs in {data_dir}: start it, or give --mqtt and --url")
    mqtt = mqtt or f"127.0.0.1:{running.ports.mqtt_port}"
    url = url or f"http://127.0.0.1:{running.ports.http_port}"
    return broker_at(mqtt), url, running.trusted_send


def broker_at(address: str) -> "Broker":
    """Where `--mqtt` leads; ends the program where that is nowhere."""
    from emqx_im_client import Broker

    try:
        parts = urlsplit(address if "://" in address else f"mqtt://{address}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        sys.exit(f"emqx-im: --mqtt: {address!r} is not HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT")
    if parts.scheme == "mqtts":
        return Broker(parts.hostname, port or 8883, ssl.create_default_context())
    return Broker(parts.hostname, port or 1883)
