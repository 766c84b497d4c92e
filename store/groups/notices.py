"""Describes control messages to groups and their members: the store asks for them and does not know their content."""

from collections.abc import Mapping, Sequence
from typing import Protocol

Notice = tuple[str, bytes]
"""A control message: its `id`, and all of it as JSON."""


class GroupNotices(Protocol):
    """Builds each control message that the commands of groups store. by: the user who gave the command."""

    def created(self, gid: int, owner: int, name: str, mode: str) -> Notice:
        """Tells the owner."""

    def invited(self, gid: int, uid: int, name: str, mode: str, by: int) -> Notice:
        """Tells a user who was invited."""

    def left(self, gid: int, uid: int) -> Notice:
        """Tells a user who left."""

    def kicked(self, gid: int, uid: int, by: int) -> Notice:
        """Tells a user who was removed."""

    def members_changed(
        self, gid: int, change: str, members: Sequence[int], by: int, owner: int | None = None
    ) -> Notice:
        """Tells the group. change: `invited`, `joined`, `left` or `kicked`. owner: who became owner by it."""

    def mode_changed(self, gid: int, mode: str, by: int) -> Notice:
        """Tells the group."""

    def dismissed(self, gid: int, by: int) -> Notice:
        """Tells the group."""

    def updated(self, gid: int, fields: Mapping[str, object], by: int) -> Notice:
        """Tells the group. fields: those of `name`, `open` and `notice` that were given."""

    def transferred(self, gid: int, owner: int, by: int) -> Notice:
        """Tells the group. owner: who is it now; the former one is an admin."""

    def admins_changed(self, gid: int, members: Sequence[int], on: bool, by: int) -> Notice:
        """Tells the group. on: whether these members are admins now, or no longer."""

    def muted(self, gid: int, members: Sequence[int] | None, seconds: int, until: int, by: int) -> Notice:
        """Tells the group. members: None for all but owner and admins. until: milliseconds, 0 if no longer muted."""
