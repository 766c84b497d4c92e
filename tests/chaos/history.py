"""Notes what happened in a round, as it was seen from outside: what was sent and answered, and what was pulled.

All times are seconds of one monotonic clock. `begun` is when the first attempt set out, `acknowledged` when the first
answer came that promises something, and infinity if none did. A request took effect somewhere between the two, if it
did.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

SERVICE = "0"
"""The sender of control messages."""

NEVER = math.inf

NOTHING = ""
"""The value of a state that there is not: of a user, for instance, who is not blocked."""


class Message(NamedTuple):
    """Names a message as the contract does: a resend keeps all three."""

    topic: str
    sender: str
    id: str


@dataclass(slots=True)
class Sent:
    """A message and its sender's side of it.

    stream: the connection it was sent on; its messages are sent one after the other, each when the one before it was
    answered. number: its place there. refused: it was answered that it will never be stored. mid: what `im.ack` named.
    """

    message: Message
    stream: str
    number: int
    content: str
    begun: float
    acknowledged: float = NEVER
    refused: bool = False
    mid: int | None = None


@dataclass(slots=True)
class Membership:
    """A user who came to an audience, or left it: a group, or those who hold a tag."""

    topic: str
    uid: str
    on: bool
    begun: float
    acknowledged: float = NEVER


@dataclass(slots=True)
class Change:
    """A recall of a message (no content), or an edit of it."""

    message: Message
    content: str | None
    begun: float
    acknowledged: float = NEVER


@dataclass(slots=True)
class Setting:
    """A read mark, a setting or a block that a user asked for. about: which of them. value: what it says, NOTHING if
    there is none.
    """

    uid: str
    about: str
    value: str
    begun: float
    acknowledged: float = NEVER


@dataclass(slots=True)
class Loss:
    """The store lost what it had and the archive had not, as a disk does: what was acknowledged before `ended` may be
    gone, unless it was seen in the archive. With an `ended` of 0 nothing may be, but everybody is told to begin anew.
    """

    begun: float
    ended: float = NEVER
    archived: frozenset[Message] = frozenset()


@dataclass(slots=True)
class Takeover:
    """A time in which a replica may have taken over from its master, which has what was answered, but not all else."""

    begun: float
    ended: float = NEVER


class Given(NamedTuple):
    """A message as a pull gave it.

    content: None if it came without a payload. recalled, edited: whether the answer says so. told: for control messages
    their type and the `mid` they name, if they name one.
    """

    last_id: int
    mid: int
    topic: str
    sender: str
    id: str
    content: str | None
    recalled: bool = False
    edited: bool = False
    told: tuple[str, int | None] | None = None

    @property
    def message(self) -> Message:
        return Message(self.topic, self.sender, self.id)


@dataclass(slots=True)
class Page:
    """An answered pull: what was asked for, and the answer. states: about what, and its value."""

    begun: float
    ended: float
    cursor: int
    known_epoch: str
    limit: int
    messages: list[Given]
    last_id: int
    epoch: str
    more: bool = False
    truncated: bool = False
    reset: bool = False
    states: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Chain:
    """Pulls of one device, each with the cursor and the epoch of the answer before it."""

    uid: str
    device: str
    pages: list[Page] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """Everything that is known of a round.

    memberships, changes, settings: in the order in which they were asked for, one after the other for the same user of
    an audience, for the same message, and for the same state of a user. window: seconds that a pull reaches back.
    """

    sent: dict[Message, Sent] = field(default_factory=dict)
    memberships: list[Membership] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)
    chains: list[Chain] = field(default_factory=list)
    window: float = NEVER

    @property
    def forgot(self) -> bool:
        """Whether the store may have lost anything for good."""
        return any(loss.ended > 0 for loss in self.losses)

    def may_be_stored_anew(self, message: Message) -> bool:
        """Whether it may have been given under an id that went with a master, before it was answered; of what the
        service tells it is not known when that was."""
        sent = self.sent.get(message)
        begun, acknowledged = (0.0, NEVER) if sent is None else (sent.begun, sent.acknowledged)
        return self.forgot or any(
            takeover.begun <= acknowledged and begun <= takeover.ended for takeover in self.takeovers
        )
