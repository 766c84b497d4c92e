"""Explains which rates of listeners harm whom, on which version of EMQX."""

from hooks.doctor import Finding, fail, warn
from hooks.emqx.rules.check import ResourceFinding as Difference
from hooks.emqx.rules.resources import UNLIMITED

EMQX = "EMQX"
_APPLY = "run `emqx-im rules apply`; existing connections keep their rate"


def explained(each: Difference) -> list[Finding]:
    """Explains what is wrong with the rates of one listener.

    If the files say that a rate is unlimited, this EMQX drops what exceeds it, or the rate counts acknowledgements too.
    """
    wanted = each.resource.wanted or {}
    drops = wanted.get("bytes_rate") == UNLIMITED
    return [_of(each.resource.label, path, str(old), drops) for path, old, _ in each.differences]


def _of(label: str, name: str, held: str, drops: bool) -> Finding:
    what = f"{label}: {name} is {held}"
    if drops:
        return fail(
            EMQX, f"{what}: messages over the rate are dropped, and MQTT 3.1.1 clients believe them sent", _APPLY
        )
    if name == "messages_rate":
        return warn(EMQX, f"{what}: it counts acknowledgements too, so busier receivers miss live deliveries", _APPLY)
    if held == UNLIMITED:
        return warn(EMQX, f"{what}: nothing slows a client that floods", _APPLY)
    return warn(EMQX, f"{what}, which differs from the files", _APPLY)
