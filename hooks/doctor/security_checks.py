"""Compares EMQX's settings with `emqx-rules/`, and names each hole that a different setting leaves open."""

from typing import Any

from hooks.doctor import Finding, fail, ok, rates, warn
from hooks.doctor.broker import EMQX
from hooks.emqx.management import Management
from hooks.emqx.rules.check import ResourceFinding as Difference
from hooks.emqx.rules.check import compare
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.resources import Item, ListenerRates, SourceOrder, trusted_sending, way
from hooks.emqx.rules.stock_acl import allows_all

APPLY = "run `emqx-im rules apply`"

HOLES = {
    "mqtt settings: mqtt.clientid_override": "anybody can take over and read another user's session by its clientid",
    "mqtt settings: mqtt.max_qos_allowed": "QoS 2 is accepted, and neither stored nor refused",
    "mqtt settings: mqtt.retain_available": "retained messages to a user's topic come to them at every subscribe",
    "mqtt settings: mqtt.shared_subscription": "`$share` splits one user's messages among their devices",
    "mqtt settings: mqtt.exclusive_subscription": "`$exclusive` lets one device keep others from a topic",
    "delayed publish: enable": "with `$delayed` removed members are still heard in a group later, and many at once",
    "retainer: enable": "retained wills are kept, whatever mqtt.retain_available says",
    "authorization source file: rules": "users may read or write topics of others, or be refused their own",
    "authorization node cache: enable": "removed members go on hearing a group for a minute and more",
    "authorization settings: no_match": "while the service is away, everything is allowed",
}
"""Maps a setting to the hole that it leaves open. Other differences are no holes, but were not tested."""


async def against_the_files(api: Management, rules: Rules) -> list[Finding]:
    """Compares EMQX with the files: one finding for everything that is missing, and one for each hole."""
    compared = await compare(api, rules, only_rules=False)
    astray = [each for each in compared if each.differences]
    if not astray:
        return [
            ok(EMQX, f"has all {len(compared)} parts of emqx-rules/, so no hole is open (secrets cannot be compared)")
        ]
    found = []
    if missing := [each.resource.label for each in astray if isinstance(each.resource, Item) and not each.held]:
        found.append(fail(EMQX, f"lacks {', '.join(missing)}: without them nothing is stored", APPLY))
    for each in astray:
        # A missing authenticator or source, and the order of sources, are checked separately.
        if each.held is not None and not isinstance(each.resource, SourceOrder):
            found += _explained(each)
    return found


def _explained(each: Difference) -> list[Finding]:
    label, found, other = each.resource.label, [], []
    if each.resource.wanted is None:
        return [fail(EMQX, f"{label} is ours, but its file no longer exists", APPLY)]
    if isinstance(each.resource, Item):
        return [fail(EMQX, f"{label} differs: {', '.join(one.path for one in each.differences)}", APPLY)]
    if isinstance(each.resource, ListenerRates):
        return rates.explained(each)
    for difference in each.differences:
        if hole := HOLES.get(f"{label}: {difference.path}"):
            setting = difference.path if "." in difference.path else f"{label}: {difference.path}"
            found.append(fail(EMQX, f"{setting} is {_shown(difference.old)}: {hole}", APPLY))
        else:
            other.append(f"{difference.path} is {_shown(difference.old)}, not {_shown(difference.new)}")
    return [*found, *([warn(EMQX, f"{label}: {'; '.join(other)}", APPLY)] if other else [])]


async def authentication(api: Management) -> list[Finding]:
    """Checks which authenticators are asked before, or instead of, the JWT."""
    held = [each for each in await api.get("/authentication") or [] if each.get("enable", True)]
    kinds = [str(each.get("mechanism")) for each in held]
    if not held:
        return [fail(EMQX, "there is no authenticator: anybody can connect as any user", APPLY)]
    if "jwt" not in kinds:
        return [fail(EMQX, f"there is no JWT authenticator among {', '.join(kinds)}", APPLY)]
    if kinds[0] != "jwt":
        mend = "move it behind the JWT in the dashboard, or delete it; it must bind the username to the client's uid"
        return [warn(EMQX, f"authenticator {kinds[0]} is asked before the JWT", mend)]
    return [ok(EMQX, "lets in only clients with a JWT")]


async def authorization(api: Management) -> list[Finding]:
    """Checks the order of the sources, and for a file that allows everything."""
    held = (await api.get("/authorization/sources") or {"sources": []})["sources"]
    enabled = [source for source in held if source.get("enable", True)]
    kinds = [str(source["type"]) for source in enabled]
    found = []
    for source in enabled:
        if source["type"] == "file" and allows_all(str(source.get("rules", ""))):
            found.append(fail(EMQX, "the ACL file allows everybody to read and write everything", APPLY))
    for kind in ("file", "http"):
        if kind not in kinds:
            found.append(fail(EMQX, f"there is no authorization source of type {kind}", APPLY))
    before = kinds[: kinds.index("http")] if "http" in kinds else []
    if "file" in kinds and "http" in kinds and "file" not in before:
        found.append(
            fail(EMQX, "the service is asked before the ACL file: while it is away, no user can publish", APPLY)
        )
    for kind in before:
        if kind != "file":
            mend = "move it behind the service, or make sure that it does not allow what the service would refuse"
            found.append(warn(EMQX, f"authorization source {kind} is asked before the service", mend))
    return found or [ok(EMQX, "authorization asks the ACL file first, then the service")]


async def sending(api: Management, rules: Rules) -> list[Finding]:
    """Checks which way users send in this broker, and whether it is the configured one."""
    runs, wanted = await trusted_sending(api, rules), rules.parameters.trusted_send
    what = f"users send {way(trusted=runs)}"
    if runs == wanted:
        return [ok(EMQX, what)]
    return [
        fail(EMQX, f"{what}; with IM_TRUSTED_SEND={str(wanted).lower()} they should send {way(trusted=wanted)}", APPLY)
    ]


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 and "\n" not in text else "another"
