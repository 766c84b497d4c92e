"""Versions of EMQX, and what depends on them."""

import re
from collections.abc import Iterable
from typing import Any

Version = tuple[int, int, int]

UNKNOWN: Version = (0, 0, 0)
NEW_LIMITS: Version = (5, 9, 0)
"""From here on EMQX drops what is over a rate, before it reads it later; and a node may keep permissions for all its
clients."""

_SAID = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


def version_of(text: str) -> Version:
    """`5.8.9` and what begins so; UNKNOWN for anything else."""
    said = _SAID.match(text)
    return (int(said[1]), int(said[2]), int(said[3] or 0)) if said else UNKNOWN


def versions_of(nodes: Iterable[dict[str, Any]]) -> list[Version]:
    """Of the answer of `/nodes`: from the oldest to the newest, of which there may be two while EMQX is upgraded."""
    return sorted({version_of(str(node.get("version", ""))) for node in nodes}) or [UNKNOWN]
