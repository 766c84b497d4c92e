"""A conversation in the terminal, or between pipes: lines in, events out."""

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from emqx_im_client import (
    Device,
    DeviceError,
    Edited,
    LoginRefused,
    Message,
    Recalled,
    Received,
    Recovered,
    Settled,
    StateChanged,
    Trouble,
    Truncated,
)
from hooks.cli.chat import moderation, states
from hooks.cli.chat.states import shown, topic_of
from hooks.cli.terminal import input_encoding
from store.addresses import Inbox, parse

_USAGE = "write `1002 hello`, or `/to 1002` (`/to group/7`) and then your lines"
_COMMANDS = f"""\
/to 1002        sends all further lines to user 1002; /to group/7 to a group
1002 hello      sends one line to user 1002, before any /to
/recall         takes your last line back; /edit TEXT says it anew
{moderation.USAGE}
{states.USAGE}
//text          sends a text that begins with a slash: /text
/help           shows these lines
Ctrl-D          leaves once everything is answered"""


class Conversation:
    """`topic`: where lines go until `/to` says otherwise; `wait`: seconds for answers after the last line."""

    def __init__(self, device: Device, topic: str, wait: float) -> None:
        self._device = device
        self._topic = topic
        self._wait = wait
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._aside = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._refused = 0
        self._last: tuple[str, int] | None = None
        """Topic and id of the last line that was stored."""

    async def run(self) -> bool:
        """Runs until the input ends and every answer has come; returns whether everything was stored.

        Raises DeviceError.
        """
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
        """Sends line after line. Returns False if some are not answered in time at the end."""
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
                f"emqx-im: not everything was answered within {self._wait:.0f} s; the message in flight is kept and "
                f"sent again next time, {left} later lines were not sent\n"
            )
            return False
        finally:
            sending.cancel()
        return True

    async def _send_lines(self) -> None:
        while (line := await self._lines.get()) is not None:
            if line.strip() == "/recall" or line.startswith("/edit "):
                await self._change_last(line)
            elif not await self._obey_others(line) and (addressed := self._address(line)):
                await self._send(*addressed)

    def _address(self, line: str) -> tuple[str, str] | None:
        """Returns topic and text; None if there is nothing to send."""
        if not line:
            return None
        if line.startswith("/") and not line.startswith("//"):
            return self._obey(line)
        text = line.removeprefix("/")
        if self._topic:
            return self._topic, text
        target, _, text = text.strip().partition(" ")
        topic = topic_of(target)
        if topic is None:
            self._refuse(f"✗ {line} ({_USAGE})")
            return None
        return (topic, text) if text else None

    def _obey(self, line: str) -> tuple[str, str] | None:
        """Carries out a command; returns topic and text where it has something to send, too."""
        command, _, rest = line.strip().partition(" ")
        if command == "/to":
            target, _, text = rest.strip().partition(" ")
            topic = topic_of(target)
            if topic is None:
                self._refuse(f"✗ {line} ({_USAGE})")
                return None
            self._topic = topic
            return (topic, text) if text else None
        if command != "/help":
            self._refuse(f"✗ {line} (unknown command)")
        for each in _COMMANDS.splitlines():
            self._print(each, "")
        return None

    async def _send(self, topic: str, text: str) -> None:
        try:
            self._last = topic, await self._device.send(topic, {"text": text})
        except DeviceError as error:
            self._refuse(f"✗ {shown(topic)} {text} ({error})")
        else:
            self._print(f"✓ {shown(topic)} {text}", "green")

    async def _change_last(self, line: str) -> None:
        """Takes the last line back, or says it anew."""
        if self._last is None:
            self._refuse(f"✗ {line} (no line was stored yet)")
            return
        command, _, text = line.strip().partition(" ")
        try:
            if command == "/recall":
                await self._device.recall(*self._last)
            else:
                await self._device.edit(*self._last, {"text": text})
        except DeviceError as error:
            self._refuse(f"✗ {line} ({error})")
        else:
            self._print(f"✓ {line}", "green")

    async def _obey_others(self, line: str) -> bool:
        """Carries out a line that moderates a group, or is about states; returns whether it is one."""
        try:
            command = moderation.command_of(line, self._topic)
            if command is not None:
                await self._device.publish(command[0], dict(command[1]))
                answer = [f"✓ {line}"]
            elif (found := await states.obey(self._device, line, self._topic)) is not None:
                answer = found
            else:
                return False
        except (DeviceError, ValueError) as error:
            self._refuse(f"✗ {line} ({error})")
        else:
            for each in answer:
                self._print(each, "green")
        return True

    def _refuse(self, text: str) -> None:
        self._refused += 1
        self._print(text, "red")

    async def _show(self) -> None:
        async for event in self._device:
            match event:
                case Received(message, confirmed):
                    self._print(_line_of(message), "" if confirmed else "dim")
                case Recalled(topic, _, by):
                    self._print(f"{by}{_where(topic)}: (took a message back)", "")
                case Edited(topic, _, kind, body):
                    self._print(f"{_where(topic).strip() or 'edited'}: {_text_of(kind, body)} (edited)", "")
                case StateChanged({"kind": "read", "by": str(by)}):
                    self._print(f"{by} has read what you wrote", "dim")
                case Settled(outcome=int(), topic=topic):
                    self._print(f"✓ {shown(topic)} (sent earlier)", "green")
                case Settled(outcome=failure, topic=topic):
                    self._refuse(f"✗ {shown(topic)} (sent earlier: {failure})")
                case Truncated():
                    self._print("… older messages are no longer kept", "yellow")
                case LoginRefused(reason):
                    self._say(f"emqx-im: {reason}; is the token still good? Trying again")
                case Trouble(reason):
                    self._say(f"emqx-im: {reason}; trying again")
                case Recovered():
                    self._say("emqx-im: connected again")

    def _print(self, text: str, style: str) -> None:
        self._console.print(_harmless(text, style))

    def _say(self, text: str) -> None:
        """Prints a line about the chat itself, beside the output that may be piped on."""
        self._aside.print(_harmless(text, "yellow"))


def _harmless(text: str, style: str) -> Text:
    """Makes one line; what others wrote cannot move the cursor or clear the screen."""
    return Text("".join(sign if sign.isprintable() else "�" for sign in text), style)


def _line_of(message: Message) -> str:
    return f"{message.sender or '?'}{_where(message.topic)}: {_text(message)}"


def _where(topic: str) -> str:
    return "" if isinstance(parse(topic), Inbox) else f" in {topic}"


def _text(message: Message) -> str:
    if message.recalled is not None:
        return "(taken back)"
    if isinstance(message.payload, bytes):
        return f"({len(message.payload)} bytes)"
    return _text_of(message.type, message.body)


def _text_of(kind: str | None, body: object) -> str:
    match body:
        case {"text": str(text)} | str(text):
            return text
        case _:
            return f"{kind or 'message'} {json.dumps(body, ensure_ascii=False)}"


def _read_lines(take: Callable[[str | None], None]) -> None:
    """Gives each line of the input to `take`, in this event loop, then None.

    A thread reads, because no other way works for terminals, pipes and files alike. It keeps neither the program alive
    nor a lock on `sys.stdin`.
    """
    loop = asyncio.get_running_loop()
    encoding = input_encoding()

    def read() -> None:
        rest = b""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the chat has ended before its input
            while chunk := os.read(0, 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(take, line.decode(encoding, "replace").rstrip("\r"))
            if rest:
                loop.call_soon_threadsafe(take, rest.decode(encoding, "replace"))
            loop.call_soon_threadsafe(take, None)

    threading.Thread(target=read, daemon=True).start()
