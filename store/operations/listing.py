"""Lists that only the archive has in an order: all groups, and the holders of a tag.

What is stored and not archived yet is waited for, so a list has everything that was answered before it was asked for.
"""

from typing import NamedTuple

from store.archive.archive import Archive
from store.archive.outbox import Outbox
from store.archive.tables.groups import GroupRow
from store.tags.holdings import SOURCES


class Holder(NamedTuple):
    """sources: those that say so."""

    uid: int
    sources: tuple[str, ...]


class Listing:
    """Its calls raise StoreAway, ArchiveAway."""

    def __init__(self, archive: Archive, outbox: Outbox) -> None:
        self._archive = archive
        self._outbox = outbox

    async def groups(self, after: int, limit: int, name: str = "") -> list[GroupRow]:
        """Returns the groups above a gid that live, by gid: those with `name` in their names, in whatever case."""
        await self._outbox.caught_up_with_now()
        return await self._archive.groups.living(after, limit, name)

    async def holders(self, tag: str, after: int, limit: int) -> list[Holder]:
        """Returns the holders of a tag above a uid, by uid; while a change of many is being propagated, those whom it
        has reached."""
        await self._outbox.caught_up_with_now()
        rows = await self._archive.tags.holding(tag, after, limit)
        return [Holder(row.uid, _sources(row.sources)) for row in rows]


def _sources(bits: int) -> tuple[str, ...]:
    """Reads what `include/holding.lua` writes."""
    return tuple(source for bit, source in enumerate(SOURCES) if bits >> bit & 1)
