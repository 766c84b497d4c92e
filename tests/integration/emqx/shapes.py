"""Parts of several answers of the fake EMQX: its own ACL file, counters, secrets as they are shown."""

import copy
from typing import Any

STOCK_ACL = (
    "%%-------------- Default ACL rules -------\n"
    "\n"
    '{allow, {username, {re, "^dashboard$"}}, subscribe, ["$SYS/#"]}.\n'
    '{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.\n'
    '{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.\n'
    "{allow, all}.\n"
)
SECRETS = ("secret", "authorization", "password")
STATUS = {"status": "connected", "node_status": [{"node": "emqx@127.0.0.1", "status": "connected"}]}
METRICS = {
    "matched": 0,
    "success": 0,
    "failed": 0,
    "dropped": 0,
    "dropped.queue_full": 0,
    "dropped.expired": 0,
    "dropped.other": 0,
    "dropped.resource_stopped": 0,
    "dropped.resource_not_found": 0,
    "late_reply": 0,
    "queuing": 0,
    "inflight": 0,
    "retried": 0,
}


def redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "******" if key.lower() in SECRETS else redacted(item) for key, item in value.items()}
    return value


def revealed(body: Any, old: Any) -> Any:
    """Returns the body with its secrets: one that comes back as it was shown stays what it was."""
    if isinstance(body, dict):
        old = old if isinstance(old, dict) else {}
        return {key: revealed(item, old.get(key)) for key, item in body.items()}
    return copy.deepcopy(old) if body == "******" else body
