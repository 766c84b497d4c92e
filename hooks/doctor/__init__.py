"""Checks for `emqx-im doctor`: one module for each party; each check is a small function that returns its findings."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["CheckState", "Finding", "clock", "fail", "ok", "skipped", "warn"]

CLOCK_WARN, CLOCK_FAIL = 1.0, 5.0
"""Seconds a host's clock may be off. Ids are times, and the service corrects no more than five."""


class CheckState(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "not checked"


@dataclass(frozen=True)
class Finding:
    """One result of a check. subject: what it is about. mend: what to do about it. alarm: the one that tells of it."""

    state: CheckState
    subject: str
    what: str
    mend: str = ""
    alarm: str = ""


def ok(subject: str, what: str) -> Finding:
    return Finding(CheckState.OK, subject, what)


def warn(subject: str, what: str, mend: str, alarm: str = "") -> Finding:
    return Finding(CheckState.WARN, subject, what, mend, alarm)


def fail(subject: str, what: str, mend: str, alarm: str = "") -> Finding:
    return Finding(CheckState.FAIL, subject, what, mend, alarm)


def skipped(subject: str, what: str, mend: str = "") -> Finding:
    return Finding(CheckState.SKIPPED, subject, what, mend)


def clock(subject: str, offset: float, precision: float = 0.0) -> Finding:
    """Judges a host's clock.

    offset: seconds that the host is ahead of this one. precision: how much of it may be the measurement's error.
    """
    off = max(0.0, abs(offset) - precision)
    if off <= CLOCK_WARN:
        return ok(subject, f"its clock is within {max(off, precision, 0.01):.2g} s of this machine's")
    what = f"its clock is {off:.1f} s {'ahead of' if offset > 0 else 'behind'} this machine's"
    mend = "run NTP (chrony, systemd-timesyncd) on both hosts"
    return fail(subject, what, mend) if off > CLOCK_FAIL else warn(subject, what, mend)
