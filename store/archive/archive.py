"""Where the outbox lands: MySQL (or MariaDB) and SQLite behind one interface."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from store.archive.mysql.archive import MySQLArchive
from store.archive.sqlite.archive import SQLiteArchive
from store.archive.tables.blocks import Block, Progress
from store.archive.tables.changes import Change
from store.archive.tables.groups import GroupTables
from store.archive.tables.moderation import ModerationTables
from store.archive.tables.months import Month
from store.archive.tables.operators import OperatorTables
from store.archive.tables.roaming import BlockReader
from store.archive.tables.server_state import ServerState
from store.archive.tables.states import StateTables
from store.archive.tables.tags import TagTables
from store.archive.tables.visible_range import VisibleRange
from store.record import Message

__all__ = ["Archive", "Blocks", "open_archive"]


class Blocks(BlockReader, Protocol):
    """The past by monthly aggregates (`store.archive.tables.blocks`). Every method raises ArchiveAway.

    A month is made in steps: `begin`, `store` batches of blocks made of its rows, `finish`. Each step holds as a whole
    or not at all, and goes on from where the one before it left the month: of two processes at one month, the second
    to take a step raises ArchiveAway, and nothing is stored twice.
    """

    async def aggregated_for(self, seconds: int) -> list[Month]:
        """Returns the months that have been read from blocks for that many seconds, in order."""

    async def begin(self, month: Month) -> Progress:
        """Returns where the month stands; it was begun if it was not."""

    async def count(self, month: Month) -> int:
        """Returns how many messages its blocks will hold, those twice that are stored twice."""

    async def received(self, month: Month, conversation: str, last_id: int, limit: int) -> list[Message]:
        """Returns the month's rows by conversation and id, after a conversation's `last_id`."""

    async def sent(self, month: Month, sender: str, last_id: int, limit: int) -> list[Message]:
        """Returns what users sent to other users, by sender and id, after a sender's `last_id`."""

    async def store(self, progress: Progress, blocks: Sequence[Block]) -> Progress:
        """Adds blocks, the last one being the furthest; returns where the month stands then."""

    async def finish(self, progress: Progress) -> None:
        """Switches the month over: from now on it is read from its blocks."""

    async def drop(self, before: int) -> int:
        """Drops blocks below an id, whole months in MySQL; returns how many months or blocks were dropped."""


class Archive(Protocol):
    """Every method connects when it needs to. All but those that change the schema answer within seconds.

    Where nothing else is said: raises ArchiveAway when the archive does not answer. Messages of the last weeks are
    rows; `read` alone finds those of months that were aggregated too.
    """

    @property
    def blocks(self) -> Blocks:
        """Returns the months that are aggregated."""

    @property
    def groups(self) -> GroupTables:
        """Returns groups and their members."""

    @property
    def moderation(self) -> ModerationTables:
        """Returns admins, mutes and notices of groups."""

    @property
    def operators(self) -> OperatorTables:
        """Returns bans, and what operators did."""

    @property
    def states(self) -> StateTables:
        """Returns read marks, settings and blocks of users."""

    @property
    def tags(self) -> TagTables:
        """Returns tags and their holders."""

    async def migrate(self) -> list[str]:
        """Brings the schema up to date; returns the names of what it applied. Several processes may run it at
        once."""

    async def pending_migrations(self) -> list[str]:
        """Returns the names of those not applied yet."""

    async def store_messages(self, messages: Sequence[Message]) -> None:
        """Stores messages: all are in the archive when it returns; existing ones stay as they are.

        Raises ArchiveRefused if it will never take one of them; others may be stored then.
        """

    async def replace_messages(self, messages: Sequence[Message]) -> None:
        """Stores messages as they are after an edit or a recall, with `replaced`; at least one. The earlier version of
        each is gone, from blocks too. In whatever order they and the messages come, the newest of each counts.

        Raises ArchiveRefused as `store_messages` does.
        """

    async def message(self, conversation: str, mid: int) -> Message | None:
        """Returns one message that is a row."""

    async def highest_id(self) -> int:
        """Returns the highest id of any message, change of a group, a tag, a state or a ban, or call of an operator; 0
        if there is none.
        """

    async def oldest_id(self) -> int:
        """Returns the lowest id of any row; 0 if there is none."""

    async def read(
        self, ranges: Sequence[VisibleRange], sender: str, after: int, before: int, limit: int
    ) -> list[Message]:
        """Returns the oldest `limit` messages of what is seen, and of what `sender` sent to other users, between two
        ids, both excluded; in order. No conversation comes twice.
        """

    async def newest(self, highest: int, limit: int) -> list[Message]:
        """Returns the newest `limit` messages up to an id, newest first."""

    async def newest_changes(self, highest: int, limit: int) -> list[Change]:
        """Returns the `limit` groups and tags that changed last, of those whose last change has at most an id; newest
        first.
        """

    async def scan(self, after: int, highest: int, limit: int) -> list[Message]:
        """Returns the oldest `limit` messages of anybody after an id and up to another; in order."""

    async def keep_partitions(self, now: int) -> list[str]:
        """Creates the partitions of the coming months; returns their names. now: microseconds."""

    async def drop_messages(self, before: int) -> int:
        """Drops rows below an id, whole months in MySQL; returns how many months or rows were dropped."""

    async def shards(self) -> int | None:
        """Returns how many shards the store has whose archive this is; None if that was never noted."""

    async def set_shards(self, count: int) -> None:
        """Notes how many shards the store has."""

    async def ping(self) -> None:
        """Returns if the archive answers."""

    async def server_state(self, now: int) -> ServerState:
        """Returns what holds the archive, its clock, and the months ahead of `now`, microseconds, that lack a
        partition. A file has the clock of its process: `now`.
        """

    async def close(self) -> None:
        """Closes its connections."""


def open_archive(url: str) -> Archive:
    """Opens `mysql://user:password@host:port/database` or `sqlite:///file` (four slashes: from the root).  It does
    not connect yet. Raises ValueError, saying what is wrong with the address without repeating it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("host or port is malformed; in a password write : / @ as %3A %2F %40") from None
    if parts.query or parts.fragment:
        raise ValueError("takes nothing after ? or #; write them as %3F and %23 in a password or a file name")
    if parts.scheme == "mysql":
        database = unquote(parts.path[1:])
        if not parts.hostname:
            raise ValueError("names no host: mysql://user:password@host:port/database")
        if not database or "/" in database:
            raise ValueError("names no database: mysql://user:password@host:port/database")
        return MySQLArchive(
            parts.hostname,
            port or 3306,
            unquote(parts.username or "root"),
            unquote_to_bytes(parts.password or ""),
            database,
        )
    if parts.scheme == "sqlite":
        if parts.netloc:
            raise ValueError(
                "names a host; a file takes three slashes, or four from the root: sqlite:////var/lib/im.db"
            )
        if len(parts.path) < 2 or parts.path.endswith("/"):
            raise ValueError("names no file: sqlite:////var/lib/im.db")
        return SQLiteArchive(unquote(parts.path[1:]))
    raise ValueError(f"mysql:// or sqlite:/// expected, not {parts.scheme or 'nothing'}")
