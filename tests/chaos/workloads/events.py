"""An operator's back end, which is told of everything."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from tests.chaos.told import Told
from tests.chaos.workloads import Workload

_PATIENCE_SECONDS = 150.0
"""A batch that was not taken is sent again after up to a minute."""
_PAUSE_SECONDS = 0.5


class Events(Workload):
    """A back end is told of all messages of the round, their recalls and edits. What it took is compared with what was
    acknowledged: nothing may be missing, or come in another order.
    """

    name = "events to a back end"
    always = True

    def work(self) -> list[Coroutine[Any, Any, None]]:
        return []

    async def compare(self) -> None:
        """Waits until nothing is missing."""
        scene, ends = self.scene, time.monotonic() + _PATIENCE_SECONDS
        told = Told(scene.history, scene.deployment.events_since(scene.events_begin))
        while (missing := told.missing()) and time.monotonic() < ends:
            await asyncio.sleep(_PAUSE_SECONDS)
            told = Told(scene.history, scene.deployment.events_since(scene.events_begin))
        scene.unexpected += [f"no event {each}" for each in missing] + [f"event: {each}" for each in told.wrong]
