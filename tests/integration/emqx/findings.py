"""Reads the doctor's findings, for its tests."""

from hooks.doctor import CheckState, Finding

OPEN_AT_BOOT = "this version lets anybody connect as any user while a node starts"
NO_RATES = "nothing slows a client that floods others with live messages"


def bad(found: list[Finding]) -> list[Finding]:
    """Returns what is wrong, but for what is so on every EMQX of its version."""
    assert all(finding.mend for finding in found if finding.state in (CheckState.WARN, CheckState.FAIL))
    wrong = [finding for finding in found if finding.state is not CheckState.OK]
    return [finding for finding in wrong if OPEN_AT_BOOT not in finding.what and NO_RATES not in finding.what]


def only(found: list[Finding]) -> Finding:
    (finding,) = bad(found)
    return finding
