"""What EMQX tells of its nodes and of an authorization source."""

from typing import Any

_NO_RATES = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}


def _names(count: int) -> list[str]:
    return [f"emqx@10.0.0.{number}" for number in range(count)]


def listed_nodes(count: int, version: str, uptime: int) -> list[dict[str, Any]]:
    """uptime: milliseconds."""
    edition = "Opensource" if version.startswith("5.8") else "Enterprise"
    same = {"node_status": "running", "role": "core", "version": version, "edition": edition, "uptime": uptime}
    return [{"node": node, **same} for node in _names(count)]


def source_status(count: int, status: str, answers: dict[str, Any]) -> dict[str, Any]:
    """count: how many nodes there are. answers: `total`, `allow`, `deny`, `ignore` and `nomatch` of each node."""
    nodes = _names(count)
    metrics = {**answers, **_NO_RATES}
    resource = {"matched": answers["total"], "success": answers["total"], "failed": 0, **_NO_RATES}
    sums = {name: value * len(nodes) for name, value in metrics.items()}
    return {
        "status": status,
        "node_status": [{"node": node, "status": status} for node in nodes],
        "metrics": sums,
        "node_metrics": [{"node": node, "metrics": metrics} for node in nodes],
        "resource_metrics": {name: value * len(nodes) for name, value in resource.items()},
        "node_resource_metrics": [{"node": node, "metrics": resource} for node in nodes],
        "node_error": [],
    }
