"""Keeps what a benchmark found: figures with their runs, as JSON; `page.py` makes the page of them.

A benchmark is a module `bench_NAME` with `run(report)`. Its docstring is the introduction of its section; each thing it
measures is one `report.figure(…)`, and `report.chart(…)` shows some of them side by side. Sizes depend on how long it
may take: `report.choose(quick=…, usual=…, full=…)`.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

Size = Literal["quick", "usual", "full"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Figure:
    """values: one per run, in `unit`; the median counts. at_least, at_most: what was aimed at, if anything was.

    command: what was run, where that says more than the benchmark's name. remark: what a reader must know of it, such
    as why it misses its aim. headline: stands in the table of all benchmarks, as those with an aim do.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    command: str = ""
    remark: str = ""
    headline: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def aim(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return ", ".join(f"{sign} {written(bound)}" for sign, bound in bounds if bound is not None)

    @property
    def met(self) -> bool:
        return (self.at_least is None or self.median >= self.at_least) and (
            self.at_most is None or self.median <= self.at_most
        )

    def __str__(self) -> str:
        spread = f" ({written(min(self.values))} to {written(max(self.values))})" if len(self.values) > 1 else ""
        verdict = f"  aim {self.aim}: {'met' if self.met else 'MISSED'}" if self.aim else ""
        return f"{self.name}: {written(self.median)}{spread} {self.unit}{verdict}".rstrip()


@dataclass
class Report:
    """One run of one benchmark. charts: title to names of figures. failed: why it did not come to its end."""

    name: str
    size: Size = "usual"
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    charts: dict[str, list[str]] = field(default_factory=dict)
    machine: str = ""
    date: str = ""
    seconds: float = 0.0
    failed: str = ""

    def __post_init__(self) -> None:
        self._directory: Path | None = None

    def keep_in(self, directory: Path) -> None:
        """Writes each figure as soon as it is measured: who ends this benchmark finds what there was."""
        self._directory = directory

    @property
    def command(self) -> str:
        return (
            f"make bench ARGS={self.name}" if self.size == "usual" else f"make bench ARGS='--{self.size} {self.name}'"
        )

    def choose(self, *, quick: Value, usual: Value, full: Value) -> Value:
        """Returns a size: quick only shows that the benchmark runs, usual takes a minute or two, full is for a quiet
        night.
        """
        return {"quick": quick, "usual": usual, "full": full}[self.size]

    def figure(
        self,
        name: str,
        unit: str,
        values: float | Sequence[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        command: str = "",
        remark: str = "",
        headline: bool = False,
    ) -> None:
        """Keeps what was measured, one value per run, and prints it."""
        runs = (values,) if isinstance(values, int | float) else tuple(values)
        values = tuple(map(float, runs))
        self.figures.append(Figure(name, unit, values, at_least, at_most, command, remark, headline))
        print(self.figures[-1], flush=True)
        if self._directory is not None:
            self.write(self._directory)

    def note(self, text: str) -> None:
        """A paragraph for the page: how it was measured, what was found."""
        self.notes.append(text)
        print(text, flush=True)

    def chart(self, title: str, figures: Sequence[str]) -> None:
        """A picture for the page: a bar for each of these figures, which are in one unit, named as they are."""
        self.charts[title] = list(figures)

    def write(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, file: Path) -> "Report":
        kept = json.loads(file.read_text())
        figures = [Figure(**{**figure, "values": tuple(figure["values"])}) for figure in kept.pop("figures")]
        return cls(**kept, figures=figures)


def written(value: float) -> str:
    """Three digits that count, and no more than are there."""
    if value == 0 or value != value:
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> str:
    """Returns what the figures were measured on."""
    gibibytes = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(":")[2].strip() for line in processors if line.startswith("model name")}
    cores = len(os.sched_getaffinity(0))
    return (
        f"{' '.join(sorted(names)) or platform.machine()}, {cores} cores, {gibibytes:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


def today() -> str:
    return time.strftime("%Y-%m-%d %H:%M")
