"""`emqx-im chat`: the reference client in a terminal, or between pipes."""

import asyncio
import contextlib
import json
import logging
import os
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from hooks.cli.token import checked_uid, jwt_secret, mint
from hooks.device import Broker, Device, DeviceError, FileState, Message, Received, Settled, Truncated
from hooks.embedded.directory import DEFAULT_DIRECTORY, find_running
from hooks.topics import number, receiver

_TOKEN_SECONDS = 3600

_USAGE = "write `1002 hello`, or `/to 1002` (`/to group/7`) and then lines"


def chat(
    uid: str = typer.Option(..., help="Who you are."),
    to: str = typer.Option("", help="Whom lines go to: a uid, or a topic such as group/7."),
    data_dir: Annotated[
        Path, typer.Option(help="Where `emqx-im dev` runs, and where the chat is kept.")
    ] = DEFAULT_DIRECTORY,
    mqtt: str = typer.Option("", help="Another broker: HOST:PORT, or mqtts://HOST:PORT."),
    url: str = typer.Option("", help="Another service: http://HOST:PORT."),
    token: str = typer.Option("", envvar="IM_TOKEN", help="Your JWT; otherwise one is made with IM_JWT_SECRET."),
    wait: float = typer.Option(60, min=0, help="Seconds to wait for answers after the last line."),
) -> None:
    """Send and receive messages: one a line. ✓ is stored, ✗ refused; what a pull has not confirmed yet is dim."""
    user = checked_uid(uid)
    topic = _topic(to) if to else ""
    if topic is None:
        sys.exit(f"emqx-im: --to: {to!r} is neither a uid nor a topic")
    broker, service = _addresses(data_dir, mqtt, url)
    secret = "" if token else jwt_secret(data_dir)
    _log_to_stderr()
    try:
        state = FileState(data_dir / "chat" / f"{user}.json")
        device = Device(
            user,
            lambda: token or mint(str(user), secret, _TOKEN_SECONDS),
            broker,
            service,
            state,
            clientid=f"{user}-chat",
        )
        succeeded = asyncio.run(_Chat(device, topic, wait).run())
    except (DeviceError, OSError) as error:
        sys.exit(f"emqx-im: {error}")
    raise typer.Exit(0 if succeeded else 1)


class _Chat:
    """One conversation with the terminal: lines in, events out."""

    def __init__(self, device: Device, topic: str, wait: float) -> None:
        self._device = device
        self._topic = topic
        self._wait = wait
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._refused = 0

    async def run(self) -> bool:
        """Until the input's end and every answer. Whether everything was stored; raises DeviceError."""
        _read_lines(self._line)
        async with self._device:
            showing = asyncio.create_task(self._show())
            talking = asyncio.create_task(self._talk())
            await asyncio.wait([showing, talking], return_when=asyncio.FIRST_COMPLETED)
            talking.cancel()
            showing.cancel()
            await asyncio.wait([showing, talking])
            if not showing.cancelled():
                showing.result()
            return talking.result() and not self._refused

    def _line(self, line: str | None) -> None:
        self._lines.put_nowait(line)
        if line is None:
            self._ended.set()

    async def _talk(self) -> bool:
        """Sends line after line. False: at the end some are not answered in time."""
        sending = asyncio.create_task(self._send_lines())
        try:
            await asyncio.wait(
                [sending, ended := asyncio.create_task(self._ended.wait())], return_when=asyncio.FIRST_COMPLETED
            )
            ended.cancel()
            async with asyncio.timeout(self._wait):
                await sending
                await self._device.settled()
        except TimeoutError:
            left = max(self._lines.qsize() - 1, 0)
            sys.stderr.write(
                f"emqx-im: not everything is answered after {self._wait:.0f} s; the message on its way is kept and "
                f"sent again the next time, {left} lines after it were not sent\n"
            )
            return False
        finally:
            sending.cancel()
        return True

    async def _send_lines(self) -> None:
        while (line := await self._lines.get()) is not None:
            if addressed := self._address(line):
                await self._send(*addressed)

    def _address(self, line: str) -> tuple[str, str] | None:
        """Topic and text; None where there is nothing to send."""
        if not line:
            return None
        if self._topic and not line.startswith("/to "):
            return self._topic, line
        target, _, text = line.removeprefix("/to ").strip().partition(" ")
        topic = _topic(target)
        if topic is None:
            self._refuse(f"✗ {line} ({_USAGE})")
            return None
        if line.startswith("/to "):
            self._topic = topic
        return (topic, text) if text else None

    async def _send(self, topic: str, text: str) -> None:
        try:
            await self._device.send(topic, {"text": text})
        except DeviceError as error:
            self._refuse(f"✗ {_peer(topic)} {text} ({error})")
        else:
            self._print(f"✓ {_peer(topic)} {text}", "green")

    def _refuse(self, text: str) -> None:
        self._refused += 1
        self._print(text, "red")

    async def _show(self) -> None:
        async for event in self._device:
            match event:
                case Received(message, confirmed):
                    self._print(_shown(message), "" if confirmed else "dim")
                case Settled(outcome=int(), topic=topic):
                    self._print(f"✓ {_peer(topic)} (sent earlier)", "green")
                case Settled(outcome=failure, topic=topic):
                    self._refuse(f"✗ {_peer(topic)} (sent earlier: {failure})")
                case Truncated():
                    self._print("… older messages are no longer kept", "yellow")

    def _print(self, text: str, style: str) -> None:
        """One line; what others wrote cannot move the cursor or clear the screen."""
        self._console.print(Text("".join(sign if sign.isprintable() else "�" for sign in text), style))


def _shown(message: Message) -> str:
    sender = message.sender or "?"
    where = "" if message.topic.startswith("single/") else f" in {message.topic}"
    return f"{sender}{where}: {_text(message)}"


def _text(message: Message) -> str:
    if isinstance(message.payload, bytes):
        return f"({len(message.payload)} bytes)"
    match message.body:
        case {"text": str(text)} | str(text):
            return text
        case body:
            return f"{message.type or 'message'} {json.dumps(body, ensure_ascii=False)}"


def _topic(target: str) -> str | None:
    """`1002` or a topic, as a topic; None if it names nobody."""
    if number(target) is not None:
        return f"single/{target}"
    return target if receiver(target) is not None else None


def _peer(topic: str) -> str:
    return topic.removeprefix("single/")


def _addresses(data_dir: Path, mqtt: str, url: str) -> tuple[Broker, str]:
    """As given, else those of the running `emqx-im dev`; ends the program where there is neither."""
    running = None if mqtt and url else find_running(data_dir)
    if running is None and not (mqtt and url):
        sys.exit(f"emqx-im: no emqx-im dev runs in {data_dir}: start it, or give --mqtt and --url")
    if mqtt:
        broker = _broker(mqtt)
    else:
        assert running is not None
        broker = Broker("127.0.0.1", running.ports.mqtt_port)
    return broker, url or f"http://127.0.0.1:{running.ports.http_port}" if running else url


def _broker(address: str) -> Broker:
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


def _read_lines(take: Callable[[str | None], None]) -> None:
    """Gives each line of the input to `take`, in this event loop, then None.

    A thread reads, as no other way works for terminals, pipes and files alike. It keeps neither the program alive nor
    a lock on `sys.stdin`.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        rest = b""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the chat has ended before its input
            while chunk := os.read(0, 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(take, line.decode(errors="replace").rstrip("\r"))
            if rest:
                loop.call_soon_threadsafe(take, rest.decode(errors="replace"))
            loop.call_soon_threadsafe(take, None)

    threading.Thread(target=read, daemon=True).start()


def _log_to_stderr() -> None:
    """What the device has to retry is told, without spoiling what is piped on."""
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
    device = logging.getLogger("hooks.device")
    device.addHandler(handler)
    device.setLevel(logging.INFO)
