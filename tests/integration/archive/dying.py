"""An archiver that is killed as by kill -9: `dying.py REDIS_URL ARCHIVE_URL before|after`, seen from the insert."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from store.archive.archive import open_archive
from store.archive.archiver import Archiver
from store.archive.handlers import MessageHandler
from store.archive.outbox import Outbox
from store.operations.dead_letters import DeadLetters
from store.record import Message
from store.redis.connection import connect
from store.workers import Worker


class Dying(MessageHandler):
    moment = "before"

    async def store(self, rows: Sequence[Message]) -> None:
        if self.moment == "after":
            await super().store(rows)
        os.kill(os.getpid(), signal.SIGKILL)


async def main(redis_url: str, archive_url: str, moment: str) -> None:
    redis = connect(redis_url)
    handler = Dying(open_archive(archive_url))
    handler.moment = moment
    await Archiver(Outbox(redis), {b"message": handler}, DeadLetters(redis)).run(Worker("archiver"))


asyncio.run(main(*sys.argv[1:4]))
