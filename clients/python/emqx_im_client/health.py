"""Tells the application, when it changes, what keeps the device from being up to date."""

import logging
import time
from collections.abc import Callable

from emqx_im_client.events import LoginRefused, Recovered, Trouble

LOGIN_PATIENCE = 180.0
"""Seconds of steady refusals until the application is told that the login is refused. A broker that starts, or a
provider of keys that is away, refuses good tokens for a while."""

_log = logging.getLogger(__name__)


class Health:
    """report: takes each event that the application is to hear."""

    def __init__(self, name: str, report: Callable[[Trouble | Recovered], None]) -> None:
        self._name = name
        self._report = report
        self._troubles: dict[str, Trouble] = {}
        self._refused_since: dict[str, float] = {}

    def failed(self, what: str, reason: str, *, refused: bool = False) -> None:
        """Notes that something (`what`) failed and is tried again. refused: because of user or token."""
        _log.info("%s: %s", self._name, reason)
        trouble = Trouble(reason)
        if refused:
            since = self._refused_since.setdefault(what, time.monotonic())
            if time.monotonic() - since >= LOGIN_PATIENCE:
                trouble = LoginRefused(reason)
        if self._troubles.get(what) != trouble:
            self._troubles[what] = trouble
            self._report(trouble)

    def saved(self, error: OSError | None) -> None:
        """Notes that the state was saved, or could not be."""
        if error is None:
            self.works("state")
        else:
            self.failed("state", f"what was received cannot be kept: {error}")

    def accepted(self, what: str) -> None:
        """Notes that user and token were accepted."""
        self._refused_since.pop(what, None)

    def works(self, what: str) -> None:
        """Notes that it works again."""
        self.accepted(what)
        if self._troubles.pop(what, None) is not None and not self._troubles:
            _log.info("%s: works again", self._name)
            self._report(Recovered())
