"""Events of a device: messages, live or pulled, and a few others."""

from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from emqx_im_client.errors import Refused, Unanswered


@dataclass(frozen=True, slots=True)
class Message:
    """One message. payload: the JSON object that was published, or the bytes when they are none.

    ts: milliseconds, mid and last_id: microseconds. A live message has no mid, and its sender is what it says; with
    trusted sending, what the broker says.
    """

    topic: str
    sender: str | None
    id: str | None
    qos: int
    payload: dict[str, Any] | bytes
    ts: int | None = None
    mid: int | None = None
    last_id: int | None = None
    recalled: dict[str, Any] | None = None
    """Says by whom and when the message was taken back: it has no payload any more."""
    edited: int | None = None
    """The id of the newest edit, which the payload has."""

    @property
    def type(self) -> str | None:
        return self._text("type")

    @property
    def body(self) -> Any:
        return self.payload.get("body") if isinstance(self.payload, dict) else None

    @property
    def secret(self) -> str | None:
        """Returns the `key` that the service's own messages carry."""
        return self._text("key")

    @property
    def identity(self) -> str | None:
        """Returns topic, sender and id, shortened; None for a live message without them."""
        if self.sender is None or self.id is None:
            return None
        return _short(f"{self.topic}\n{self.sender}\n{self.id}".encode())

    @property
    def digest(self) -> str:
        """Returns what was said, shortened: the same for the live and the pulled copy of one message."""
        if self.recalled is not None:
            return "recalled"
        if isinstance(self.payload, bytes):
            return _short(self.payload)
        return _short(orjson.dumps(self.payload, option=orjson.OPT_SORT_KEYS))

    def conversation(self, uid: str) -> str:
        """Returns where the user finds it: `single/<the other one>` for private messages, else the topic."""
        return f"single/{self.sender}" if self.topic == f"single/{uid}" and self.sender is not None else self.topic

    def _text(self, name: str) -> str | None:
        value = self.payload.get(name) if isinstance(self.payload, dict) else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Received:
    """A message. confirmed: its sender is the truth, as it came in a pull, carries the service's key, or was delivered
    with trusted sending.
    """

    message: Message
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Recalled:
    """The message `mid` of that topic was taken back."""

    topic: str
    mid: int
    by: str


@dataclass(frozen=True, slots=True)
class Edited:
    """The message `mid` of that topic says something else now."""

    topic: str
    mid: int
    type: str | None
    body: Any


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A read mark, a setting or a block has a new value. state: the object of the pull."""

    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Truncated:
    """The device was away for longer than messages are kept: what follows starts at the window's edge."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a message that nobody waits for: an earlier run sent it, or `send` was cancelled.

    outcome: its `mid`, or why it has none.
    """

    id: str
    topic: str
    outcome: int | Refused | Unanswered


@dataclass(frozen=True, slots=True)
class Trouble:
    """The device is not up to date, and goes on trying. reason: for a person; told again when it changes."""

    reason: str


@dataclass(frozen=True, slots=True)
class LoginRefused(Trouble):
    """Broker or service have refused user or token for minutes: the user may have to log in again.

    The device goes on trying, with a new token each time.
    """


@dataclass(frozen=True, slots=True)
class Recovered:
    """The device is up to date again: the last Trouble or LoginRefused is over."""


Event = Received | Recalled | Edited | StateChanged | Truncated | Settled | Trouble | Recovered


def live(topic: str, payload: bytes, qos: int) -> Message:
    """Returns a message as the broker delivered it; `from` and `id` are its own claims."""
    fields = json_object(payload)
    if fields is None:
        return Message(topic, None, None, qos, payload)
    sender, client_id = fields.get("from"), fields.get("id")
    return Message(
        topic,
        str(sender) if isinstance(sender, str | int) else None,
        client_id if isinstance(client_id, str) else None,
        qos,
        fields,
    )


def pulled(entry: dict[str, Any]) -> Message:
    """Makes a message from an entry of a pull. Raises KeyError, TypeError, ValueError if it is none."""
    if type(entry["last_id"]) is not int or type(entry["mid"]) is not int or not isinstance(entry["topic"], str):
        raise TypeError("not a message")
    recalled, edited = entry.get("recalled"), entry.get("edited")
    payload = b64decode(entry["payload_b64"]) if "payload_b64" in entry else entry.get("payload", {})
    return Message(
        topic=entry["topic"],
        sender=entry["from"],
        id=entry["id"],
        qos=entry["qos"],
        payload=payload,
        ts=entry["ts"],
        mid=entry["mid"],
        last_id=entry["last_id"],
        recalled=recalled if isinstance(recalled, dict) else None,
        edited=edited if isinstance(edited, int) else None,
    )


def json_object(payload: bytes) -> dict[str, Any] | None:
    """Returns the object in the payload; None if there is none, or one too deep to be written again."""
    try:
        fields = orjson.loads(payload)
        orjson.dumps(fields)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return fields if isinstance(fields, dict) else None


def _short(content: bytes) -> str:
    return sha256(content).hexdigest()[:20]
