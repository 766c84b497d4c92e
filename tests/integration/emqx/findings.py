"""What the doctor's tests look at in what it found."""

from typing import Any

from hooks.doctor import Finding, State
from hooks.settings import Settings
from tests.integration.emqx.conftest import HOOK_TOKEN, JWT_SECRET


def settings(**given: Any) -> Settings:
    needed = {"redis_url": "redis://", "archive_url": "sqlite:///x", "admin_token": "-", "secret": "-"}
    return Settings(**{**needed, "hook_token": HOOK_TOKEN, "jwt_secret": JWT_SECRET, **given})


OPEN_AT_BOOT = "this version lets anybody in while a node starts"
NO_RATES = "nothing slows a client that floods others with what is delivered live"


def bad(found: list[Finding]) -> list[Finding]:
    """What is wrong, but for what is so on every EMQX of its version."""
    assert all(finding.mend for finding in found if finding.state in (State.WARN, State.FAIL))
    wrong = [finding for finding in found if finding.state is not State.OK]
    return [finding for finding in wrong if OPEN_AT_BOOT not in finding.what and NO_RATES not in finding.what]


def only(found: list[Finding]) -> Finding:
    (finding,) = bad(found)
    return finding
