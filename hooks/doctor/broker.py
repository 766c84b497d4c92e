"""EMQX: reachable, of a version that will do, and carrying messages to the service."""

from collections.abc import Callable
from typing import Any

from hooks.doctor import Finding, fail, ok, skipped, warn
from hooks.emqx.management import Management
from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.resources import manageable
from hooks.emqx.versions import NEW_LIMITS, OLDEST, open_at_boot, version_of, versions_of

EMQX = "EMQX"
_LICENSED = (5, 9, 0)
_WAITING = 1000

Node = dict[str, Any]


async def nodes(api: Management) -> tuple[list[Node], list[Finding]]:
    """The nodes, none where EMQX cannot be asked further, and what was found."""
    try:
        held = await api.get("/nodes") if await manageable(api) else None
    except BrokerAway as error:
        return [], [
            fail(EMQX, f"REST API does not answer: {error}", "IM_EMQX_API_URL; is EMQX running, port 18083 open?")
        ]
    except BrokerRefused as error:
        mend = "IM_EMQX_API_KEY, IM_EMQX_API_SECRET: an API key with the role administrator"
        return [], [fail(EMQX, f"REST API refuses: {error}", mend)]
    if held is None:
        return [], [
            skipped(EMQX, "the embedded broker of emqx-im dev: it runs emqx-rules/ itself, and has no settings")
        ]
    stopped = [str(node["node"]) for node in held if node.get("node_status", "running") != "running"]
    found = [fail(EMQX, f"node {name} is not running", "start it, or remove it from the cluster") for name in stopped]
    found += [*versions(held), boot(held), *floods(held)]
    return held, [ok(EMQX, f"REST API answers: {len(held)} node(s)"), *found]


def versions(held: list[Node]) -> list[Finding]:
    told = sorted({str(node.get("version", "")) for node in held}, key=version_of)
    if version_of(told[0]) < OLDEST:
        return [fail(EMQX, f"version {told[0]}", "5.8.6 or newer: older ones do not say which connection ended")]
    if len(told) > 1:
        return [warn(EMQX, f"versions {', '.join(told)} side by side", "finish the upgrade")]
    return [ok(EMQX, f"version {told[0]}")]


def boot(held: list[Node]) -> Finding:
    """Whether a node that starts lets anybody in."""
    if not open_at_boot(versions_of(held)[0]):
        return ok(EMQX, "lets nobody in while a node starts")
    what = "this version lets anybody in while a node starts, as anybody, for a second or two"
    mend = "let clients come through what asks /status twice before it sends anybody: docs/operators/install.md"
    return warn(EMQX, what, mend)


def floods(held: list[Node]) -> list[Finding]:
    """From 5.9 on no rate is set, as EMQX would drop what is over it; what was delivered the service sees later."""
    if versions_of(held)[-1] < NEW_LIMITS:
        return []
    what = (
        "nothing slows a client that floods others with what is delivered live: from 5.9 on a rate would lose messages"
    )
    mend = "what is stored is bounded by the service; what EMQX offers for the rest: docs/operators/rules.md#rates"
    return [warn(EMQX, what, mend)]


async def license_needed(api: Management, held: list[Node]) -> list[Finding]:
    """From 5.9 EMQX is under the BSL: one node is free, a cluster needs a licence."""
    if versions_of(held)[-1] < _LICENSED:
        return []
    if len(held) == 1:
        return [ok(EMQX, "one node: free in production under its licence (BSL 1.1)")]
    license_ = await api.get("/license") or {}
    if license_.get("expiry"):
        return [fail(EMQX, "the licence has expired", "renew it: emqx ctl license update …")]
    if license_.get("type") != "official":
        return [warn(EMQX, f"a cluster of {len(held)} nodes needs a licence from 5.9", "buy one, or run 5.8.9")]
    return [ok(EMQX, f"a cluster of {len(held)} nodes, with a licence")]


async def actions(api: Management, rules: Rules) -> list[Finding]:
    """Whether each action reaches the service, and what it had to drop since its counters began."""
    found = []
    for name in rules.actions:
        subject, path = f"action {name}", f"/actions/http:{name}"
        held = await api.get(path)
        if held is None:
            continue  # The comparison with the files says so.
        status = held.get("status")
        if status == "connected":
            found.append(ok(subject, "reaches the service"))
        else:
            reason = f": {held['status_reason']}" if held.get("status_reason") else ""
            mend = "IM_HOOK_URL must be reachable from EMQX's hosts; then `emqx-im rules apply`"
            found.append(fail(subject, f"is {status}{reason}", mend))
        metrics = (await api.get(f"{path}/metrics") or {}).get("metrics", {})
        kept = rules.actions[name]["resource_opts"]["request_ttl"] == "infinity"
        found += _dropped(subject, path, metrics, fail if kept else warn)
    return found


def _dropped(
    subject: str, path: str, metrics: dict[str, int], complain: Callable[[str, str, str], Finding]
) -> list[Finding]:
    found = []
    reasons = {key.partition(".")[2]: count for key, count in metrics.items() if key.startswith("dropped.") and count}
    if metrics.get("dropped"):
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or f"{metrics['dropped']}"
        mend = f"these are lost: mend the cause, then reset the counters (PUT {path}/metrics/reset)"
        found.append(complain(subject, f"has dropped: {why}", mend))
    if metrics.get("queuing", 0) > _WAITING:
        what = f"{metrics['queuing']} requests wait in EMQX's memory"
        found.append(warn(subject, what, "the service does not keep up, or is away: see its /readyz and /metrics"))
    if not found and metrics:
        found.append(
            ok(subject, f"nothing dropped of {metrics.get('matched', 0)}, {metrics.get('queuing', 0)} waiting")
        )
    return found
