"""The sessions that EMQX holds for users, kept ones of absent devices too.

EMQX looks through all its clients for a question, however many users it names: so what is asked meanwhile goes into the
next question, and few are asked at a time.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from hooks.emqx.rest import MAX_USERNAMES, Client, Rest
from hooks.messaging.shares import Shares
from store.cancellation import end

_AT_ONCE = 2
"""Questions: while the many sessions of one user are listed, others are asked about."""

_Asked = tuple[int, asyncio.Future[list[Client]]]


class Sessions:
    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._waiting: Shares[_Asked] = Shares()
        self._asking: set[asyncio.Task[None]] = set()
        self._loops = 0

    async def of(self, share: str, uid: int) -> list[Client]:
        """Returns every session of the user. Raises BrokerAway, BrokerRefused."""
        answer: asyncio.Future[list[Client]] = asyncio.get_running_loop().create_future()
        self._waiting.put(share, (uid, answer))
        if self._loops < _AT_ONCE:
            self._loops += 1
            self._start(self._ask_all())
        return await answer

    async def stop(self) -> None:
        for task in list(self._asking):
            await end(task)

    def _start(self, asking: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(asking, name="sessions")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask_all(self) -> None:
        try:
            while asked := self._next():
                await self._ask(asked)
        finally:
            self._loops -= 1

    def _next(self) -> list[_Asked]:
        asked: list[_Asked] = []
        while len(asked) < MAX_USERNAMES and (found := self._waiting.take()):
            if not found[1][1].cancelled():
                asked.append(found[1])
        return asked

    async def _ask(self, asked: Sequence[_Asked]) -> None:
        """Asks EMQX. A user with more than a page is asked about alone, and nobody waits for their other pages."""
        try:
            found, more = await self._rest.clients_of([str(uid) for uid, _ in asked])
        except Exception as error:
            for _, answer in asked:
                _fail(answer, error)
            return
        if not more:
            sessions: dict[int, list[Client]] = {uid: [] for uid, _ in asked}
            for client in found:
                sessions[int(client.username)].append(client)
            for uid, answer in asked:
                if not answer.done():
                    answer.set_result(sessions[uid])
        elif len(asked) == 1:
            self._start(self._go_on(asked[0], found))
        else:
            half = len(asked) // 2
            await self._ask(asked[:half])
            await self._ask(asked[half:])

    async def _go_on(self, asked: _Asked, found: list[Client]) -> None:
        uid, answer = asked
        page, more = 2, True
        try:
            while more:
                others, more = await self._rest.clients_of([str(uid)], page)
                found += others
                page += 1
        except Exception as error:
            _fail(answer, error)
        if not answer.done():
            answer.set_result(found)


def _fail(answer: asyncio.Future[list[Client]], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def newest(sessions: Sequence[Client], limit: int) -> tuple[list[Client], list[Client]]:
    """Returns the sessions that a user may have, and those that are too many: the ones connected longest ago."""
    by_time = sorted(sessions, key=lambda client: client.connected_at, reverse=True)
    return by_time[:limit], by_time[limit:]
