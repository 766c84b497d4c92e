"""When groups and tags changed last, by their channels, to check a Redis that was restarted."""

from collections.abc import Iterable
from typing import NamedTuple


class Change(NamedTuple):
    """channel: of a group or a tag. changed: the id of its last change, of members or holders too."""

    channel: str
    changed: int


def newest_of_each(changes: Iterable[Change]) -> list[Change]:
    """Returns one for each channel, in the order of their names: writers that lock rows in one order do not wait for
    each other in a circle.
    """
    newest: dict[str, int] = {}
    for channel, changed in changes:
        newest[channel] = max(changed, newest.get(channel, 0))
    return [Change(channel, newest[channel]) for channel in sorted(newest)]
