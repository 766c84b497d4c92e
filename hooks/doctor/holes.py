"""EMQX's settings against `emqx-rules/`, and each hole that an other setting leaves open."""

import re
from typing import Any

from hooks.doctor import Finding, fail, ok, warn
from hooks.doctor.broker import EMQX
from hooks.emqx.check import Finding as Difference
from hooks.emqx.check import compare
from hooks.emqx.management import Management
from hooks.emqx.resources import Item
from hooks.emqx.rules import Rules

APPLY = "emqx-im rules apply"

HOLES = {
    "mqtt.clientid_override": "any user can take over another's session, and read it, by its clientid",
    "mqtt.max_qos_allowed": "QoS 2 is let in, and is neither stored nor refused",
    "mqtt.retain_available": "a retained message to another's topic comes to him at every subscribe",
    "enable": "retained wills are kept, whatever mqtt.retain_available says",
    "mqtt.shared_subscription": "`$share` splits one user's messages among his devices",
    "no_match": "what nobody decides is allowed: everything, while the service is away",
}
"""Setting to what it leaves open. What else differs is no hole, but not as it was measured."""

_ALLOWS_ALL = re.compile(r"^\s*\{\s*allow\s*,\s*all\s*\}\s*\.", re.MULTILINE)


async def against_the_files(api: Management, rules: Rules) -> list[Finding]:
    """One finding for each part that is not as in the files; one for all that are."""
    compared = await compare(api, rules, only_rules=False)
    found = [finding for each in compared if each.differences for finding in _explained(each)]
    right = sum(not each.differences for each in compared)
    if right == len(compared):
        return [ok(EMQX, f"holds all {right} parts of emqx-rules/; no hole is open (secrets cannot be compared)")]
    return [ok(EMQX, f"holds {right} of {len(compared)} parts of emqx-rules/"), *found] if right else found


def _explained(each: Difference) -> list[Finding]:
    resource = each.resource
    if isinstance(resource, Item):
        return [fail(EMQX, f"{resource.label} {_astray(each)}", APPLY)]
    if each.held is None:
        return [fail(EMQX, f"{resource.label} is missing", APPLY)]
    found = []
    for difference in each.differences:
        hole = HOLES.get(difference.path)
        what = f"{resource.label}: {difference.path} is {_shown(difference.old)}"
        if hole and (resource.label == "retainer" or difference.path != "enable"):
            found.append(fail(EMQX, f"{what}: {hole}", APPLY))
        else:
            found.append(warn(EMQX, f"{what}, and should be {_shown(difference.new)}", APPLY))
    return found


def _astray(each: Difference) -> str:
    if each.resource.wanted is None:
        return "is ours, and its file has gone"
    if each.held is not None:
        return f"differs: {', '.join(difference.path for difference in each.differences)}"
    if each.resource.label.startswith("rule"):
        return "is missing: its events do not reach the service"
    return "is missing: nothing reaches the service"


async def authentication(api: Management) -> list[Finding]:
    """Who is asked before, or instead of, the JWT."""
    held = [each for each in await api.get("/authentication") or [] if each.get("enable", True)]
    kinds = [str(each.get("mechanism")) for each in held]
    if not held:
        return [fail(EMQX, "no authenticator: everybody is let in, as anybody", APPLY)]
    if "jwt" not in kinds:
        return [fail(EMQX, f"no JWT authenticator among {', '.join(kinds)}", APPLY)]
    if kinds[0] != "jwt":
        mend = "move it behind in the dashboard, or delete it; who it lets in must carry his uid as username"
        return [warn(EMQX, f"authenticator {kinds[0]} is asked before the JWT", mend)]
    return [ok(EMQX, "lets in who has a JWT")]


async def authorization(api: Management) -> list[Finding]:
    """The order of the sources, and a file that allows everything."""
    held = (await api.get("/authorization/sources") or {"sources": []})["sources"]
    enabled = [source for source in held if source.get("enable", True)]
    kinds = [str(source["type"]) for source in enabled]
    found = []
    for source in enabled:
        if source["type"] == "file" and _ALLOWS_ALL.search(str(source.get("rules", ""))):
            found.append(
                fail(EMQX, "the ACL file ends in {allow, all}: everybody may read and write everything", APPLY)
            )
    for kind in ("file", "http"):
        if kind not in kinds:
            found.append(fail(EMQX, f"no authorization source of type {kind}", APPLY))
    before = kinds[: kinds.index("http")] if "http" in kinds else []
    if "file" in kinds and "http" in kinds and "file" not in before:
        found.append(fail(EMQX, "the service is asked before the file: no user is heard while it is away", APPLY))
    for kind in before:
        if kind != "file":
            mend = "it may allow what the service would refuse: move it behind, or be sure of it"
            found.append(warn(EMQX, f"authorization source {kind} is asked before the service", mend))
    return found or [ok(EMQX, "authorization: the file first, then the service")]


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 and "\n" not in text else "another"
