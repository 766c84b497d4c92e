"""The benchmarks run: one that needs no load generator, at its smallest."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import runner, service
from tests.bench.page import write_page
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


def test_what_was_measured_stays_where_a_benchmark_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes as it goes: here it is killed right after its first figure."""
    monkeypatch.setitem(runner.MAX_SECONDS, "quick", 0)
    found = Report("cost", "quick", failed=runner.UNDER_WAY)
    found.keep_in(tmp_path)
    found.figure("bytes of a thing", "bytes", 7)
    assert not runner.run("cost", "quick", tmp_path)
    report = Report.read(tmp_path / "cost.json")
    assert report.failed == "not done after 0 s"
    assert [figure.name for figure in report.figures] == ["bytes of a thing"]
    assert "| bytes of a thing | 7 |" in write_page(tmp_path).read_text()


def test_a_server_that_is_too_slow_for_the_load_generator_is_told_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "timed_out", [])
    assert service._result("RESULT 500 1000000 0 20 1500000\n", 256) == (500.0, 1500.0)
    assert service.timed_out == [
        "20 of 500 requests over 256 connections took more than 2 seconds; "
        "the rate counts what was answered while it was measured."
    ]
    with pytest.raises(RuntimeError, match="3 requests failed"):
        service._result("RESULT 500 1000000 3 0 1500000\n", 256)
