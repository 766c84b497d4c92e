"""Dashboard and alerts, held to the metrics the service has, and the alerts to what operators read of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from hooks.metrics import PREFIX, HotChannelHits, Metrics

ROOT = Path(__file__).parents[3]
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
OWN_LABELS = {"namespace", "le"}
"""Labels that Prometheus adds to those a metric has."""


def series() -> dict[str, set[str]]:
    """Returns the name of each series the service gives, with its labels."""
    metrics = [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]
    found = {metric._name + end: set(metric._labelnames) for metric in metrics for end in SUFFIXES[str(metric._type)]}
    return found | {HotChannelHits.name: set(HotChannelHits.labels)}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "deploy" / "dashboards" / "emqx-im.json").read_text())
    return loaded


def expressions() -> Iterator[tuple[str, str]]:
    """Yields where it stands, and the expression."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_asks_for_what_there_is(where: str, expression: str) -> None:
    known = series()
    used = re.findall(rf"{PREFIX}_\w+", expression)
    assert used
    labels = OWN_LABELS.union(*(known[name] for name in used))
    selected = re.findall(r"(\w+)(?:=~|!=|!~|=)\"", expression)
    grouped = [label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")]
    assert set(selected + grouped) <= labels
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for where, expression in expressions() for name in re.findall(rf"{PREFIX}_\w+", expression)}
    metrics = [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]
    names = [HotChannelHits.name, *(metric._name for metric in metrics)]
    missing = [wanted for wanted in names if not any(name.startswith(wanted) for name in shown)]
    assert missing == []


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = dashboard()["panels"]
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_legends_and_summaries_name_labels_that_stay() -> None:
    for alert in alerts():
        grouped = re.findall(r"by \(([^)]*)\)", alert["expr"])
        named = re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"])
        assert set(named) <= {label for group in grouped for label in group.split(", ")}
        assert alert["labels"]["severity"] in ("critical", "warning")


def test_each_alarm_is_explained_to_operators() -> None:
    page = (ROOT / "docs" / "operators" / "alarms.md").read_text()
    explained = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert explained == [alert["alert"] for alert in alerts()]
