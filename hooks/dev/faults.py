"""What EMQX was seen to do wrong, for tests to switch on; `emqx-im dev` does none of it."""

from dataclasses import dataclass


@dataclass
class Faults:
    """booting: as while EMQX 5.8 starts, anybody is let in with any password, no rule hears of anything, and every
    question about a permission is denied. The REST API and `/status` answer already, as in the last half second.

    reconnect_seconds: once a question found the service away, nothing is asked for so long, as when EMQX's look at it,
    every 15 seconds, fell into the outage. A shorter one EMQX does not notice: questions fail, and are answered again
    as soon as the service is back.
    """

    booting: bool = False
    reconnect_seconds: float = 0.0
