"""What EMQX tells of its nodes and of an authorization source."""

from collections.abc import Mapping
from typing import Any

_NO_RATES = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}


def node_names(count: int) -> list[str]:
    return [f"emqx@10.0.0.{number}" for number in range(count)]


def listed_nodes(uptimes: Mapping[str, int], version: str) -> list[dict[str, Any]]:
    """uptimes: by node, milliseconds."""
    edition = "Opensource" if version.startswith("5.8") else "Enterprise"
    same = {"node_status": "running", "role": "core", "version": version, "edition": edition}
    return [{"node": node, **same, "uptime": uptime} for node, uptime in uptimes.items()]


def source_status(statuses: Mapping[str, str], answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Both by node. answers: `total`, `allow`, `deny`, `ignore` and `nomatch`."""
    metrics = {node: {**counts, **_NO_RATES} for node, counts in answers.items()}
    resources = {
        node: {"matched": counts["total"], "success": counts["total"], "failed": 0, **_NO_RATES}
        for node, counts in answers.items()
    }
    return {
        "status": "connected" if set(statuses.values()) == {"connected"} else "disconnected",
        "node_status": [{"node": node, "status": status} for node, status in statuses.items()],
        "metrics": _summed(metrics),
        "node_metrics": [{"node": node, "metrics": each} for node, each in metrics.items()],
        "resource_metrics": _summed(resources),
        "node_resource_metrics": [{"node": node, "metrics": each} for node, each in resources.items()],
        "node_error": [],
    }


def _summed(by_node: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = list(by_node.values())
    return {name: sum(row[name] for row in rows) for name in rows[0]}
