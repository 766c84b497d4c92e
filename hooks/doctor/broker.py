"""Checks that EMQX is reachable, of a suitable version, and carries messages to the service."""

from collections.abc import Callable
from typing import Any

from hooks.doctor import Finding, fail, ok, skipped, warn
from hooks.emqx.management import Management
from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.resources import manageable
from hooks.emqx.versions import NEW_LIMITS, OLDEST, open_at_boot, version_of, versions_of

EMQX = "EMQX"
API_FAILING = "EmqxImBrokerApiFailing"
_LICENSED = (5, 9, 0)
_WAITING = 1000

Node = dict[str, Any]


async def nodes(api: Management) -> tuple[list[Node], list[Finding]]:
    """Returns the nodes, none where EMQX cannot be asked further, and what was found."""
    try:
        held = await api.get("/nodes") if await manageable(api) else None
    except BrokerAway as error:
        return [], [
            fail(
                EMQX,
                f"REST API does not answer: {error}",
                "check IM_EMQX_API_URL, that EMQX is running, and that its port 18083 is open",
                API_FAILING,
            )
        ]
    except BrokerRefused as error:
        mend = "set IM_EMQX_API_KEY and IM_EMQX_API_SECRET to an API key with the role administrator"
        return [], [fail(EMQX, f"REST API refuses: {error}", mend, API_FAILING)]
    if held is None:
        return [], [
            skipped(EMQX, "this is the broker of emqx-im dev: it runs emqx-rules/ by itself, and has no settings")
        ]
    stopped = [str(node["node"]) for node in held if node.get("node_status", "running") != "running"]
    found = [fail(EMQX, f"node {name} is not running", "start it, or remove it from the cluster") for name in stopped]
    found += [*versions(held), boot(held), *floods(held)]
    return held, [ok(EMQX, f"REST API answers: {len(held)} node(s)"), *found]


def versions(held: list[Node]) -> list[Finding]:
    told = sorted({str(node.get("version", "")) for node in held}, key=version_of)
    if version_of(told[0]) < OLDEST:
        return [fail(EMQX, f"version {told[0]} does not say which connection ended", "upgrade EMQX to 5.8.6 or newer")]
    if len(told) > 1:
        return [warn(EMQX, f"versions {', '.join(told)} run side by side", "finish the upgrade")]
    return [ok(EMQX, f"version {told[0]}")]


def boot(held: list[Node]) -> Finding:
    """Checks whether a starting node lets anybody in."""
    if not open_at_boot(versions_of(held)[0]):
        return ok(EMQX, "lets no unauthenticated client in while a node starts")
    what = "this version lets anybody connect as any user while a node starts, for a second or two"
    mend = "let clients come through a balancer that asks /status twice first: docs/operators/install.md"
    return warn(EMQX, what, mend)


def floods(held: list[Node]) -> list[Finding]:
    """Warns that from 5.9 on no rate is set: EMQX would drop what exceeds it, and the service sees messages only
    later.
    """
    if versions_of(held)[-1] < NEW_LIMITS:
        return []
    what = "nothing slows a client that floods others with live messages: from 5.9 on a rate would lose messages"
    mend = "see docs/operators/rules.md#rates for what EMQX offers; the service limits what is stored"
    return [warn(EMQX, what, mend)]


async def license_needed(api: Management, held: list[Node]) -> list[Finding]:
    """Checks the licence: from 5.9 on EMQX is under the BSL, so one node is free and a cluster needs a licence."""
    if versions_of(held)[-1] < _LICENSED:
        return []
    if len(held) == 1:
        return [ok(EMQX, "a single node may be used in production under its licence (BSL 1.1)")]
    license_ = await api.get("/license") or {}
    if license_.get("expiry"):
        return [fail(EMQX, "the licence has expired", "renew it with `emqx ctl license update …`")]
    if license_.get("type") != "official":
        return [warn(EMQX, f"a cluster of {len(held)} nodes needs a licence from 5.9 on", "buy one, or run 5.8.9")]
    return [ok(EMQX, f"the cluster of {len(held)} nodes has a licence")]


async def actions(api: Management, rules: Rules) -> list[Finding]:
    """Checks whether each action reaches the service, and what it had to drop since its counters began."""
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
            mend = "make IM_HOOK_URL reachable from EMQX's hosts, then run `emqx-im rules apply`"
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
        mend = f"these requests are lost: fix the cause, then reset the counters (PUT {path}/metrics/reset)"
        found.append(complain(subject, f"has dropped requests: {why}", mend))
    if metrics.get("queuing", 0) > _WAITING:
        what = f"{metrics['queuing']} requests wait in EMQX's memory"
        found.append(warn(subject, what, "see /readyz and /metrics of the service: it does not keep up, or is away"))
    if not found and metrics:
        found.append(
            ok(
                subject,
                f"has dropped none of {metrics.get('matched', 0)} requests, {metrics.get('queuing', 0)} are waiting",
            )
        )
    return found
