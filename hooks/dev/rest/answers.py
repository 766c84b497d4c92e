"""Builds answers in the shapes of EMQX 5.8: for the embedded broker, and for the clusters that tests model."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

Item = TypeVar("Item")

Answer = dict[str, Any]

UNKNOWN_CLIENT = {"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}
NO_KEY = {"code": "AUTHORIZATION_HEADER_ERROR", "message": "Support authorization: basic/bearer "}
WRONG_KEY = {"code": "BAD_API_KEY_OR_SECRET", "message": "Check api_key/api_secret"}

DECISIONS = ("allow", "deny", "ignore", "nomatch")
"""The answers of an authorizer, as EMQX counts them."""

_NO_RATES = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}


def page(found: Sequence[Item], number: int, limit: int, shown: Callable[[Item], Any]) -> Answer:
    """Returns one page of what was found, counted from 1."""
    start = (number - 1) * limit
    meta = {"count": len(found), "limit": limit, "page": number, "hasnext": start + limit < len(found)}
    return {"data": [shown(each) for each in found[start : start + limit]], "meta": meta}


def page_by_cursor(data: Sequence[Answer], cursor: str | None) -> Answer:
    """Returns a page; cursor: of the next one, None after the last."""
    return {"data": data, "meta": {"count": len(data)} | ({"cursor": cursor} if cursor is not None else {})}


def running_node(name: str, version: str, uptime: int) -> Answer:
    """Returns a node as it is listed. uptime: milliseconds."""
    edition = "Opensource" if version.startswith("5.8") else "Enterprise"
    state = {"node_status": "running", "role": "core", "version": version, "edition": edition}
    return {"node": name, **state, "uptime": uptime}


def source_status(
    statuses: Mapping[str, str], answers: Mapping[str, Mapping[str, int]], requests: Mapping[str, Mapping[str, int]]
) -> Answer:
    """Returns the status of an authorization source. Rates are not kept.

    All by node. answers: `total`, and how often each of DECISIONS was given. requests: `success` and `failed`.
    """
    metrics = {node: {**counts, **_NO_RATES} for node, counts in answers.items()}
    resources = {node: {"matched": answers[node]["total"], **counts, **_NO_RATES} for node, counts in requests.items()}
    connected = set(statuses.values()) == {"connected"}
    return {
        "status": "connected" if connected else "disconnected",
        "node_status": [{"node": node, "status": status} for node, status in statuses.items()],
        "metrics": _summed(metrics),
        "node_metrics": [{"node": node, "metrics": each} for node, each in metrics.items()],
        "resource_metrics": _summed(resources),
        "node_resource_metrics": [{"node": node, "metrics": each} for node, each in resources.items()],
        "node_error": [],
    }


def iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _summed(by_node: Mapping[str, Answer]) -> Answer:
    rows = list(by_node.values())
    return {name: sum(row[name] for row in rows) for name in rows[0]}
