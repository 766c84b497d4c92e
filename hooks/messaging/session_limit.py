"""Ends surplus sessions of users, as EMQX's list of all shows them: the ones connected longest ago.

Kept sessions of absent devices are in no presence, so only that list has them.
"""

from array import array
from collections.abc import Iterable

from hooks.emqx.rest import Listed, Rest
from hooks.messaging.session_ender import SessionEnder
from hooks.messaging.sessions import Sessions, newest
from store.addresses import number

_COUNTERS = 1 << 20
"""Users share these: one who seems to have too many is asked for alone."""
_MAX_SUSPECTS = 1000
"""Looked at after one list; the others are found in the next."""

TOO_MANY = "too_many"


class SessionLimit:
    def __init__(self, rest: Rest, ender: SessionEnder, max_sessions: int) -> None:
        """max_sessions: sessions of one user."""
        self._rest = rest
        self._ender = ender
        self._max_sessions = max_sessions
        self._counts = array("H")
        self._suspects: set[int] = set()

    def begin(self) -> None:
        """Begins with a new list of all sessions."""
        self._counts = array("H", bytes(2 * _COUNTERS))
        self._suspects.clear()

    def see(self, page: Iterable[Listed]) -> None:
        """Counts a part of the list."""
        for session in page:
            uid = number(session.username)
            if uid is None:
                continue
            counter = uid % _COUNTERS
            if self._counts[counter] < self._max_sessions:
                self._counts[counter] += 1
            elif len(self._suspects) < _MAX_SUSPECTS:
                self._suspects.add(uid)

    async def enforce(self) -> None:
        """Ends surplus sessions, when the list is complete. Raises BrokerAway, BrokerRefused."""
        sessions = Sessions(self._rest)
        try:
            for uid in self._suspects:
                for client in newest(await sessions.of(str(uid), uid), self._max_sessions)[1]:
                    self._ender.put(str(uid), client.clientid, TOO_MANY)
        finally:
            await sessions.stop()
            self._counts = array("H")
