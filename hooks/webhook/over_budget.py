"""Tells senders over their budget once a second, and counts: there may be very many of their messages."""

import asyncio
import time

import structlog

from hooks.errors import OverBudget
from hooks.messaging.outgoing import Outgoing
from hooks.metrics import Metrics
from store.addresses import number
from store.errors import StoreError
from store.operations.dead_letters import DeadLetters

_TOLD_SECONDS = 1.0

log = structlog.get_logger(__name__)


class OverBudgetNotices:
    def __init__(self, dead_letters: DeadLetters, outgoing: Outgoing, metrics: Metrics) -> None:
        self._dead_letters = dead_letters
        self._outgoing = outgoing
        self._count = metrics.over_budget.inc
        self._told: set[str] = set()
        self._until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, sender: str, error: OverBudget) -> None:
        """Notes that a message of the sender was refused."""
        self._count()
        now = time.monotonic()
        if now >= self._until:
            self._until = now + _TOLD_SECONDS
            self._told.clear()
        if sender not in self._told and number(sender) is not None:
            self._told.add(sender)
            task = asyncio.create_task(self._tell(sender, error))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, sender: str, error: OverBudget) -> None:
        log.warning("over_budget", sender=sender, retry_after=error.retry_after)
        try:
            if await self._dead_letters.may_tell(sender):
                self._outgoing.tell(
                    sender,
                    "im.error",
                    {
                        **{"ref": error.ref, "code": error.code, "message": error.message},
                        "retry_after": error.retry_after,
                    },
                )
        except StoreError as failure:
            log.warning("over_budget_not_told", sender=sender, error=str(failure))
