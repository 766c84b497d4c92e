"""Describes what clients are told of a recall or an edit, and what an edited message holds; callers provide both."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from store.addresses import Address
from store.groups.notices import Notice
from store.record import Message


class ReplacementNotices(Protocol):
    """Builds what a recall or an edit stores. to: who is told. about: the address of the message, whose id is mid."""

    def recalled(self, to: Address, about: Address, mid: int, by: int) -> Notice:
        """Builds the control message of a recall. by: who recalled it, OPERATOR for an operator."""

    def edited(self, to: Address, about: Address, mid: int, content: Mapping[str, Any]) -> Notice:
        """Builds the control message of an edit. content: what the message has now beside its client id."""

    def edited_payload(self, content: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """Returns what is before and behind the client id, a JSON string, in the payload of the edited message."""


class ChangeReport(NamedTuple):
    """The change of the message `mid` that a control message reports. recalled_by: "" if it was edited.

    payload: makes the payload of the edited message from its client id.
    """

    mid: int
    recalled_by: str
    payload: Callable[[str], bytes]


ReadReport = Callable[[Message], ChangeReport | None]
"""Returns what a message tells of another one; None if it is not the control message of a recall or an edit."""


def with_change(message: Message, report: ChangeReport, changed_at: int) -> Message:
    """Returns a message as it is after a change, of which `changed_at` is the id."""
    if report.recalled_by:
        changed = message._replace(json=False, payload=b"", replaced=changed_at, recalled_by=report.recalled_by)
    else:
        changed = message._replace(json=True, payload=report.payload(message.client_id), replaced=changed_at)
    return message.changed_to(changed)
