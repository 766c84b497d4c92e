"""Versions of EMQX, and what depends on them."""

import re
from collections.abc import Iterable
from typing import Any

Version = tuple[int, int, int]

UNKNOWN: Version = (0, 0, 0)
OLDEST: Version = (5, 8, 6)
"""The first whose disconnect events carry `connected_at`."""
NEW_LIMITS: Version = (5, 9, 0)
"""From here on EMQX drops what exceeds a rate, where older ones read it later, and a node may cache permissions for
all its clients."""

CLOSED_AT_BOOT: Version = (5, 8, 12)
"""The first that accepts no connection before it is ready; 5.9 and newer refuse clients without an authenticator."""

_GIVEN = re.compile(r"\d+\.\d+(\.\d+)?")
_SAID = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def version_of(text: str) -> Version:
    """Reads `5.8.9`, and whatever begins like that; returns UNKNOWN for anything else."""
    said = _SAID.match(text)
    return (int(said[1]), int(said[2]), int(said[3] or 0)) if said else UNKNOWN


def target_version(given: str) -> Version:
    """Returns what an operator names, as `6.2` or `5.8.9`.

    Raises ValueError for none, and for one that is too old for us.
    """
    version = version_of(given) if _GIVEN.fullmatch(given) else UNKNOWN
    if version[:2] < OLDEST[:2]:
        raise ValueError(f"{given!r} is not a version of EMQX from 5.8 on, such as 5.8 or 6.2")
    return version


def versions_of(nodes: Iterable[dict[str, Any]]) -> list[Version]:
    """Returns the versions in the answer of `/nodes`, oldest first; there may be two while EMQX is upgraded."""
    return sorted({version_of(str(node.get("version", ""))) for node in nodes}) or [UNKNOWN]


def open_at_boot(version: Version) -> bool:
    """Returns whether a node lets in anybody, with any password and username, while it starts."""
    return version < CLOSED_AT_BOOT
