"""Runs benchmarks, each in its own process: neither its failure nor what it leaves in memory affects the next."""

import importlib
import multiprocessing
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import tests.bench
from tests.bench.report import Report, Size, machine, today
from tests.bench.service import timed_out
from tests.servers import die_with_parent

MAX_SECONDS = {"quick": 120, "usual": 420, "full": 7200}
"""A benchmark that takes longer is ended, and what it started with it."""
UNDER_WAY = "it was ended from outside"
"""Stands in what a benchmark has found so far, until it comes to its end."""


def names() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(tests.bench.__path__))
    return [name.removeprefix("bench_") for name in modules if name.startswith("bench_")]


def run(name: str, size: Size, directory: Path | None) -> bool:
    """Runs one benchmark; its results go to `directory`. Returns whether it came to its end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        arguments = (name, size, directory, scratch)
        running = multiprocessing.get_context("spawn").Process(target=_run_here, args=arguments)
        running.start()
        running.join(MAX_SECONDS[size])
        late = running.is_alive()
        running.kill()
        running.join()
    if late:
        told = f"not done after {MAX_SECONDS[size]} s"
        print(told, flush=True)
        if directory is not None:
            report = _begun(name, size, directory)
            report.failed = told
            report.write(directory)
    return running.exitcode == 0


def _begun(name: str, size: Size, directory: Path) -> Report:
    """Returns what a benchmark that was ended had found: it writes as it goes."""
    file = directory / f"{name}.json"
    report = Report.read(file) if file.exists() else None
    return report if report is not None and report.failed == UNDER_WAY else Report(name, size)


def _run_here(name: str, size: Size, directory: Path | None, scratch: str) -> None:
    die_with_parent()
    tempfile.tempdir = scratch
    report = Report(name, size, machine=machine(), date=today(), failed=UNDER_WAY)
    if directory is not None:
        report.write(directory)
        report.keep_in(directory)
    started = time.monotonic()
    try:
        importlib.import_module(f"tests.bench.bench_{name}").run(report)
    except Exception as error:
        traceback.print_exc()
        report.failed = f"{type(error).__name__}: {error}"
    else:
        report.failed = ""
    for told in timed_out:
        report.note(told)
    report.seconds = round(time.monotonic() - started, 1)
    if directory is not None:
        report.write(directory)
    sys.exit(bool(report.failed))
