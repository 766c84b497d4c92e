"""Notes what operators did: it is written to the outbox, and read from the archive."""

from typing import NamedTuple, Unpack

import orjson

from store.addresses import MAX_ID, Address
from store.archive.archive import Archive
from store.archive.outbox import Outbox
from store.archive.tables.operators import AuditRow
from store.record import Message
from store.redis.batch_script import BatchScript
from store.redis.client import RedisClient
from store.redis.scripts import script
from store.redis.write_bounds import ScriptBounds

MAX_NAME = 128
_MAX_ADDRESS, _MAX_PATH, _MAX_DETAIL = 64, 256, 4096
_AUDIT = script("audit", int)


class AuditedCall(NamedTuple):
    """One call that was answered. name: as given at the login, unproved; "" with the token alone.

    path: method and path. detail: what the caller is to be remembered by, as JSON.
    """

    name: str
    address: str
    path: str
    status: int
    detail: dict[str, object]


class Audit:
    def __init__(
        self, archive: Archive, outbox: Outbox, write_connection: RedisClient, **bounds: Unpack[ScriptBounds]
    ) -> None:
        """write_connection, bounds: those of a BatchScript."""
        self._archive = archive
        self._outbox = outbox
        self._script = BatchScript(write_connection, **bounds)

    @property
    def highest_id(self) -> int:
        """Returns the highest id that the store gave it."""
        return self._script.highest_id

    async def put(self, call: AuditedCall) -> None:
        """Raises StoreError."""
        detail = orjson.dumps(call.detail)
        if len(detail) > _MAX_DETAIL:
            detail = b'{"cut":true}'
        name, address, path = (
            " ".join(text.split())[:most]
            for text, most in ((call.name, MAX_NAME), (call.address, _MAX_ADDRESS), (call.path, _MAX_PATH))
        )
        entry = "\n".join((name, address, path, str(call.status), detail.decode()))
        self._script.given(await self._script.run(_AUDIT, entry=entry))

    async def message(self, to: Address, mid: int) -> Message | None:
        """Returns a message that an operator sent, as it is now; None if its row is gone. Raises ArchiveAway."""
        return await self._archive.message(to.conversation, mid)

    async def page(self, after: int, limit: int, path: str = "") -> list[AuditRow]:
        """Returns the newest calls, of one method and path or of all, newest first; or those older than the id `after`.

        Raises StoreAway, ArchiveAway.
        """
        await self._outbox.caught_up_with_now()
        return await self._archive.operators.audit(after or MAX_ID, limit, path)
