"""The benchmarks run: one that needs no load generator, at its smallest."""

import subprocess
import sys
from pathlib import Path

from tests.bench.report import Report
from tests.bench.runner import names


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "tests.bench", *arguments], capture_output=True, text=True)


def test_what_a_benchmark_finds_is_kept_and_put_on_the_page(tmp_path: Path) -> None:
    done = bench("--quick", "--to", str(tmp_path), "cost")
    assert done.returncode == 0, done.stderr
    report = Report.read(tmp_path / "cost.json")
    assert not report.failed
    assert all(figure.median > 0 for figure in report.figures)
    assert f"| {report.figures[0].name} |" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "cost-1.svg").exists()


def test_a_benchmark_that_there_is_not_is_named() -> None:
    done = bench("nothing")
    assert done.returncode == 2
    assert "no benchmark is called nothing: there are archive, " in done.stderr
    assert "cost" in names()
