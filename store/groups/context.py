"""Holds what all commands to groups have in common."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from store.groups.notices import GroupNotices, Notice
from store.groups.script import CommandCall, ModerationCall


class CommandContext(NamedTuple):
    """Says who gives a command to which group, and builds the control messages that report it.

    command_id: a command is known again by its actor, kind, gid and this; a refused one leaves no trace.
    received_at: when the broker received a user's command, milliseconds; without it no budget judges the command.
    """

    gid: int
    actor: int
    command_id: str
    notices: GroupNotices
    received_at: int | None = None

    def call(
        self, kind: str, told: Mapping[int, Notice | None], notice: Notice | None = None, **fields: Any
    ) -> CommandCall:
        """Returns the call of the script. told, notice, fields: as in CommandCall."""
        return CommandCall(kind, self.gid, self.actor, self.command_id, told, notice, self.received_at, **fields)

    def moderation(self, kind: str, notice: Notice, **fields: Any) -> ModerationCall:
        """Returns the call of the script. notice, fields: as in ModerationCall."""
        return ModerationCall(kind, self.gid, self.actor, self.command_id, notice, self.received_at, **fields)
