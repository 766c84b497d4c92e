"""The reference pages, held to the code: each row of their tables, in both directions."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client.metrics import MetricWrapperBase
from pydantic_core import PydanticUndefined

from hooks.api.openapi.paths import PATHS
from hooks.cli import app
from hooks.errors import CODES
from hooks.metrics import HotChannelHits, Metrics
from hooks.setting_sources import PREFIX
from hooks.settings import TABLE

DOCS = Path(__file__).parents[2] / "docs"


def documented(page: str) -> list[tuple[str, ...]]:
    """Returns the rows of all tables of a page, without heads, code marks and escapes."""
    rows = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    cells = [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]) for row in rows]
    rules = [number for number, row in enumerate(cells) if set(row) == {"---"}]
    heads = {number for rule in rules for number in (rule - 1, rule)}
    return [
        (row[0].strip("`"), *(cell.replace("\\|", "|") for cell in row[1:]))
        for number, row in enumerate(cells)
        if number not in heads
    ]


def default(value: object) -> str:
    match value:
        case _ if value is PydanticUndefined:
            return "required"
        case None | () | "":
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def settings() -> list[tuple[str, ...]]:
    return [(PREFIX + name.upper(), default(field.default), field.description or "") for name, field in TABLE.items()]


def metrics() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for metric in vars(Metrics()).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)
            rows.append((name, str(metric._type), labels, metric._documentation))
        elif isinstance(metric, HotChannelHits):
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            rows.append((metric.name, "gauge", labels, metric.meaning))
    return rows


def errors() -> list[tuple[str, ...]]:
    return [(name, str(code.status), code.meaning) for name, code in CODES.items()]


def admin() -> list[tuple[str, ...]]:
    """Returns what operators may ask, as the served document has it."""
    return [
        (f"{method.upper()} {path}", operation["summary"])
        for path, operations in PATHS.items()
        for method, operation in operations.items()
        if path.startswith("/admin/")
    ]


def commands(group: Any = None, path: str = "emqx-im") -> list[tuple[str, ...]]:
    """Returns each command, those of a group below its name."""
    group = group or typer.main.get_command(app)
    rows: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            rows += commands(command, f"{path} {name}")
            continue
        options = [parameter.opts[0] for parameter in command.params if parameter.opts[0] != "--help"]
        meaning = re.sub(r"\s+", " ", command.help.strip())
        rows.append((f"{path} {name}", " ".join(f"`{option}`" for option in options), meaning))
    return rows


@pytest.mark.parametrize(
    ("page", "rows"),
    [
        ("settings.md", settings),
        ("metrics.md", metrics),
        ("errors.md", errors),
        ("cli.md", commands),
        ("admin.md", admin),
    ],
)
def test_a_page_says_what_the_code_does(page: str, rows: object) -> None:
    assert callable(rows)
    built, written = sorted(rows()), sorted(documented(page))
    assert built
    assert [row for row in built if row not in written] == [], "in the code, and not so on the page"
    assert [row for row in written if row not in built] == [], "on the page, and not so in the code"
    assert len(written) == len(set(written))


def amount(text: str) -> float | None:
    """Returns the number at the start of a default as the page of limits writes it; None if it is unset."""
    if text.startswith("unset"):
        return None
    found = re.match(r"([\d,.]*\d)( [KM]iB)?", text)
    assert found is not None, text
    return float(found[1].replace(",", "")) * {None: 1, " KiB": 2**10, " MiB": 2**20}[found[2]]


def test_limits_are_those_of_the_code() -> None:
    page = (DOCS / "operators" / "limits.md").read_text()
    named = re.findall(r"`IM_([A-Z_]+)` \(([^)]+)\)", page)
    assert len(named) > 10
    wrong = [name for name, text in named if TABLE[name.lower()].default != amount(text)]
    assert wrong == []


def test_limits_are_counted_in_metrics_that_there_are() -> None:
    known = {name if name.startswith("emqx_im") else f"emqx_im_{name}" for name, *_ in metrics()}
    named = re.findall(r"`(emqx_im_[a-z_]+)", (DOCS / "operators" / "limits.md").read_text())
    assert named
    assert [name for name in named if name not in known] == []
