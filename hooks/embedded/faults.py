"""What EMQX was seen to do wrong, for tests to switch on; `emqx-im dev` does none of it."""

from dataclasses import dataclass


@dataclass
class Faults:
    """booting: as while EMQX 5.8 starts, anybody is let in with any password, no rule hears of anything, and every
    question about a permission is denied. The REST API is not there yet.

    reconnect_seconds: once the service was found away, it is asked nothing for so long, as by EMQX, which looks every
    15 seconds whether what it lost is back.
    """

    booting: bool = False
    reconnect_seconds: float = 0.0
