"""Runs every benchmark of this package, or those named: `python -m tests.bench [--quick | --full] [--to DIR] [NAME …]`.

What they find goes to docs/benchmarks, except from quick runs.
"""

import argparse
import sys
from pathlib import Path

from tests.bench.page import write_page
from tests.bench.report import Size
from tests.bench.runner import names, run

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks"


def main(arguments: list[str]) -> int:
    """Returns how many failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--quick", dest="size", action="store_const", const="quick", help="only whether they run")
    parser.add_argument("--full", dest="size", action="store_const", const="full", help="larger sizes, hours")
    parser.add_argument("--to", type=Path, help="where the figures go")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.names) - set(names())
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}: there are {', '.join(names())}")
    size: Size = chosen.size or "usual"
    directory = chosen.to or (None if size == "quick" else PAGE)
    failed = []
    for name in chosen.names or names():
        print(f"\n## {name}", flush=True)
        if not run(name, size, directory):
            failed.append(name)
    if directory is not None:
        print(f"\n{write_page(directory)}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
