"""EMQX's settings against `emqx-rules/`, and each hole that an other setting leaves open."""

from typing import Any

from hooks.doctor import Finding, fail, ok, rates, warn
from hooks.doctor.broker import EMQX
from hooks.emqx.management import Management
from hooks.emqx.rules.check import Finding as Difference
from hooks.emqx.rules.check import compare
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.resources import Item, Listener, SourceOrder, trusted_sending, way
from hooks.emqx.rules.stock_acl import allows_all

APPLY = "emqx-im rules apply"

HOLES = {
    "mqtt settings: mqtt.clientid_override": "anybody can take over another's session, and read it, by its clientid",
    "mqtt settings: mqtt.max_qos_allowed": "QoS 2 is let in, and is neither stored nor refused",
    "mqtt settings: mqtt.retain_available": "a retained message to another's topic comes to him at every subscribe",
    "mqtt settings: mqtt.shared_subscription": "`$share` splits one user's messages among his devices",
    "mqtt settings: mqtt.exclusive_subscription": "`$exclusive` lets one device keep others from a topic",
    "delayed publish: enable": "`$delayed` lets who is removed from a group be heard there later, and many at once",
    "retainer: enable": "retained wills are kept, whatever mqtt.retain_available says",
    "authorization source file: rules": "users may be granted what is others', or be refused what is theirs",
    "authorization node cache: enable": "whoever is removed from a group goes on hearing it for a minute and more",
    "authorization settings: no_match": "what nobody decides is allowed: everything, while the service is away",
}
"""Setting to what it leaves open. What else differs is no hole, but not as it was measured."""


async def against_the_files(api: Management, rules: Rules) -> list[Finding]:
    """What is not as in the files: what is missing as one finding, each hole as one of its own."""
    compared = await compare(api, rules, only_rules=False)
    astray = [each for each in compared if each.differences]
    if not astray:
        return [
            ok(EMQX, f"holds all {len(compared)} parts of emqx-rules/; no hole is open (secrets cannot be compared)")
        ]
    found = []
    if missing := [each.resource.label for each in astray if isinstance(each.resource, Item) and not each.held]:
        found.append(fail(EMQX, f"missing: {', '.join(missing)}: without them nothing is stored", APPLY))
    for each in astray:
        # A missing authenticator or source, and their order, have checks of their own.
        if each.held is not None and not isinstance(each.resource, SourceOrder):
            found += _explained(each)
    return found


def _explained(each: Difference) -> list[Finding]:
    label, found, other = each.resource.label, [], []
    if each.resource.wanted is None:
        return [fail(EMQX, f"{label} is ours, and its file has gone", APPLY)]
    if isinstance(each.resource, Item):
        return [fail(EMQX, f"{label} differs: {', '.join(one.path for one in each.differences)}", APPLY)]
    if isinstance(each.resource, Listener):
        return rates.explained(each)
    for difference in each.differences:
        if hole := HOLES.get(f"{label}: {difference.path}"):
            setting = difference.path if "." in difference.path else f"{label}: {difference.path}"
            found.append(fail(EMQX, f"{setting} is {_shown(difference.old)}: {hole}", APPLY))
        else:
            other.append(f"{difference.path} is {_shown(difference.old)}, not {_shown(difference.new)}")
    return [*found, *([warn(EMQX, f"{label}: {'; '.join(other)}", APPLY)] if other else [])]


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
        if source["type"] == "file" and allows_all(str(source.get("rules", ""))):
            found.append(fail(EMQX, "the ACL file allows everything: everybody may read and write everything", APPLY))
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


async def sending(api: Management, rules: Rules) -> list[Finding]:
    """Which way users send in this broker, and whether it is the one that is set."""
    runs, wanted = await trusted_sending(api, rules), rules.parameters.trusted_send
    what = f"users send {way(trusted=runs)}"
    if runs == wanted:
        return [ok(EMQX, what)]
    return [fail(EMQX, f"{what}; IM_TRUSTED_SEND={str(wanted).lower()} wants it {way(trusted=wanted)}", APPLY)]


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 and "\n" not in text else "another"
