"""Faults that were observed in EMQX, for tests to switch on; `emqx-im dev` has none of them."""

from dataclasses import dataclass


@dataclass
class Faults:
    """booting: as while EMQX 5.8 starts, anybody can connect with any password, no rule fires, and every question
    about a permission is denied. The REST API and `/status` answer already, as in the last half second.
    reconnect_seconds: how long nothing is asked once a question found the service away, as when EMQX's check, every
    15 seconds, fell into the outage. EMQX does not notice a shorter one: questions fail, and are answered again as
    soon as the service is back.
    """

    booting: bool = False
    reconnect_seconds: float = 0.0
