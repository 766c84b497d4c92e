"""The benchmarks' figures: what is written is read back, and an aim that was missed is said to be."""

from pathlib import Path

from tests.bench.page import write_page
from tests.bench.report import Report


def test_the_page_says_what_was_found_and_what_was_missed(tmp_path: Path) -> None:
    report = Report("ingest", machine="a machine", date="2026-01-01 10:00", failed="RuntimeError: wrk is gone")
    report.figure("rates", "messages/s", (9_000, 12_345.6, 15_000), at_least=10_000)
    report.figure("ratio", "ratio", (0.5, 0.7), at_least=0.75, remark="the disk")
    report.figure("size", "bytes", 7)
    report.chart("All rates", ["rates"])
    report.write(tmp_path)

    page = write_page(tmp_path).read_text()

    assert Report.read(tmp_path / "ingest.json") == report
    assert "| rates | 12,346 (9,000 to 15,000) | messages/s | ≥ 10,000: met |  |" in page
    assert "| ratio | 0.6 (0.5 to 0.7) | ratio | ≥ 0.75: **missed** | the disk |" in page
    assert "| size | 7 | bytes |  |  |" in page
    assert "![All rates](ingest-1.svg)" in page
    assert "12,346" in (tmp_path / "ingest-1.svg").read_text()
    assert "**It did not come to its end:** RuntimeError: wrk is gone" in page


def test_a_size_is_chosen() -> None:
    assert [Report("x", size).choose(quick=1, usual=2, full=3) for size in ("quick", "usual", "full")] == [1, 2, 3]
