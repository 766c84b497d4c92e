"""The page of the benchmarks, made of what their last runs found."""

import importlib
from pathlib import Path

from tests.bench.chart import svg
from tests.bench.report import Figure, Report, written

_HEAD = """\
# Benchmarks

`make bench` makes this page from the `.json` files beside it: do not edit it. Each figure is the median of its runs,
with the lowest and the highest. Load generators, Redis, MariaDB and the service share the machine's cores, so rates
of different machines cannot be compared; ratios were measured in turn in one run. Unless something else is said,
Redis syncs its log to disk at every write (`appendfsync always`) and MariaDB at every commit.
"""


def write_page(directory: Path) -> Path:
    reports = [Report.read(file) for file in sorted(directory.glob("*.json"))]
    parts = [_HEAD, _overview(reports), *(_section(report, _charts(report, directory)) for report in reports)]
    page = directory / "README.md"
    page.write_text("\n".join(parts))
    return page


def _overview(reports: list[Report]) -> str:
    """Returns every figure that was aimed at, and what else a reader comes for."""
    lines = ["## In one table\n", "| | aim | measured | |", "| --- | --- | --- | --- |"]
    for report in reports:
        for figure in report.figures:
            if figure.aim or figure.headline:
                aim = f"{figure.aim} {figure.unit}" if figure.aim else ""
                told = ": ".join(part for part in (_verdict(figure) if aim else "", figure.remark) if part)
                name = f"[{report.name}](#{report.name}): {figure.name}"
                lines.append(f"| {name} | {aim} | {_measured(figure)} {figure.unit} | {told} |")
    return "\n".join(lines) + "\n"


def _charts(report: Report, directory: Path) -> list[str]:
    """Draws them; a line of the page for each."""
    figures = {figure.name: figure for figure in report.figures}
    lines = []
    for number, (title, names) in enumerate(report.charts.items(), 1):
        bars = {name: figures[name] for name in names if name in figures}
        if bars:
            file = directory / f"{report.name}-{number}.svg"
            file.write_text(svg(f"{title} ({next(iter(bars.values())).unit})", bars))
            lines.append(f"![{title}]({file.name})\n")
    return lines


def _section(report: Report, charts: list[str]) -> str:
    text = (importlib.import_module(f"tests.bench.bench_{report.name}").__doc__ or "").strip()
    lines = [f"## {report.name}\n", f"{text}\n", f"`{report.command}`, {report.date}, {report.seconds:.0f} s"]
    lines[-1] += f"; {report.machine}.\n" if report.machine else ".\n"
    if report.failed:
        lines.append(f"**It did not come to its end:** {report.failed}\n")
    lines += charts
    if report.figures:
        lines += ["| | median (lowest to highest) | unit | aim | |", "| --- | ---: | --- | --- | --- |"]
        lines += [_row(figure) for figure in report.figures]
        lines.append("")
    lines += [f"{note}\n" for note in report.notes]
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    aim = f"{figure.aim}: {_verdict(figure)}" if figure.aim else ""
    remark = " ".join(part for part in (f"`{figure.command}`" if figure.command else "", figure.remark) if part)
    return f"| {figure.name} | {_measured(figure)} | {figure.unit} | {aim} | {remark} |"


def _measured(figure: Figure) -> str:
    if len(figure.values) == 1:
        return written(figure.median)
    return f"{written(figure.median)} ({written(min(figure.values))} to {written(max(figure.values))})"


def _verdict(figure: Figure) -> str:
    return "met" if figure.met else "**missed**"
