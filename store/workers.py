"""Workers: what runs beside the service, by name, until it is stopped, and is begun again when it fails.

A worker is a function that takes a `Worker`. Most call `Worker.every` with a step and how often that is due; the loop,
the pauses after failures and the log are the same for all.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

import structlog

from store.cancellation import end, sleep_unless
from store.errors import StoreError

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0
"""Seconds before a worker that ended by an error is begun again."""

Sleep = Callable[[asyncio.Event, float], Awaitable[None]]

log = structlog.get_logger(__name__)


class Backoff:
    """Pauses that grow while something fails: each twice the one before, less up to half of it at random, so that
    processes that failed together do not come back together."""

    def __init__(self, first: float = 0.2, max_pause: float = 5.0) -> None:
        """first, max_pause: seconds."""
        self._first = self._next = first
        self._max_pause = max_pause

    def pause(self) -> float:
        """Returns seconds to wait after one more failure."""
        pause, self._next = self._next, min(self._max_pause, self._next * 2)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311

    def reset(self) -> None:
        """Starts again with the first pause, after something has worked."""
        self._next = self._first


class Worker:
    """One worker, as it sees itself.

    stop: set when it is to end. trouble: what it failed with last, "" if it works. expected: errors that the log tells
    without a traceback.
    """

    def __init__(
        self,
        name: str,
        stop: asyncio.Event | None = None,
        *,
        expected: tuple[type[Exception], ...] = (StoreError,),
        sleep: Sleep = sleep_unless,
    ) -> None:
        """sleep: waits for so many seconds, or until the event is set."""
        self.name = name
        self.stop = stop or asyncio.Event()
        self.trouble = ""
        self._expected = expected
        self._sleep = sleep

    async def every(
        self,
        seconds: float | Callable[[], float],
        step: Callable[[], Awaitable[object]],
        *,
        retry: Backoff | None = None,
        finishes: bool = False,
    ) -> None:
        """Calls `step` until the worker is stopped: at once, and `seconds` after each; what fails, after a pause.

        retry: those pauses; without it they grow up to `seconds`. finishes: a step in hand is not cancelled.
        """
        if retry is None:
            usual = seconds() if callable(seconds) else seconds
            retry = Backoff(min(1.0, usual), usual)
        repeating = self._repeat(seconds, step, retry)
        await (repeating if finishes else self.until_stopped(repeating))

    async def until_stopped(
        self,
        *working: Coroutine[Any, Any, None],
        grace: float = 0.0,
        on_stop: Callable[[], object] = lambda: None,
    ) -> None:
        """Runs all of `working`, and cancels it when the worker is stopped, or one of it fails. Raises what it raises.

        grace: seconds that it may take to end by itself after `on_stop` was called.
        """
        tasks = [asyncio.create_task(each, name=self.name) for each in working]
        stopped = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
            if self.stop.is_set():
                on_stop()
                await asyncio.wait(tasks, timeout=grace)
        finally:
            stopped.cancel()
            for task in tasks:
                await end(task)
        if failures := [error for task in tasks if not task.cancelled() and (error := task.exception())]:
            raise failures[0]

    async def sleep(self, seconds: float) -> None:
        """Waits so long, or until the worker is stopped."""
        await self._sleep(self.stop, seconds)

    def failed(self, error: Exception) -> None:
        """Logs the error when trouble begins or changes, not at every attempt."""
        text = str(error) or type(error).__name__
        if text != self.trouble:
            expected = isinstance(error, self._expected)
            tell = log.warning if expected else log.error
            tell("worker_failed", worker=self.name, error=text, exc_info=None if expected else error)
        self.trouble = text

    def worked(self) -> None:
        if self.trouble:
            log.info("worker_works_again", worker=self.name)
        self.trouble = ""

    async def _repeat(
        self, seconds: float | Callable[[], float], step: Callable[[], Awaitable[object]], retry: Backoff
    ) -> None:
        while not self.stop.is_set():
            try:
                await step()
            except Exception as error:
                self.failed(error)
                pause = retry.pause()
            else:
                self.worked()
                retry.reset()
                pause = seconds() if callable(seconds) else seconds
            await self.sleep(pause)


Run = Callable[[Worker], Coroutine[Any, Any, None]]


class Supervisor:
    """Starts workers, and begins those again that end by an error, after a pause that grows. A context: all are
    stopped at its end."""

    def __init__(self, *, expected: tuple[type[Exception], ...] = (StoreError,), sleep: Sleep = sleep_unless) -> None:
        """expected, sleep: as for a Worker."""
        self._expected = expected
        self._sleep = sleep
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self, name: str, run: Run) -> Worker:
        """Starts a worker and returns it. If its `run` ends without an error, it has nothing more to do."""
        assert name not in self._workers, name
        worker = Worker(name, expected=self._expected, sleep=self._sleep)
        self._workers[name] = worker, asyncio.create_task(self._supervise(worker, run), name=name)
        return worker

    def troubles(self) -> dict[str, str]:
        """Returns the workers that fail now, and what with."""
        return {name: worker.trouble for name, (worker, _) in self._workers.items() if worker.trouble}

    async def stop(self) -> None:
        """Stops all at the same time, and returns when the last one has ended."""
        for worker, _ in self._workers.values():
            worker.stop.set()
        await asyncio.gather(*(task for _, task in self._workers.values()))

    async def _supervise(self, worker: Worker, run: Run) -> None:
        retry = Backoff(_FIRST_PAUSE, _MAX_PAUSE)
        while True:
            begun = time.monotonic()
            try:
                await run(worker)
            except Exception as error:
                worker.failed(error)
            else:
                return
            if worker.stop.is_set():
                return
            if time.monotonic() - begun > _MAX_PAUSE:
                retry.reset()
            await worker.sleep(retry.pause())
