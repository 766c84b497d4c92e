"""Runs every benchmark of this package, or those named on the command line."""

import importlib
import pkgutil
import sys

import tests.bench


def main(wanted: list[str]) -> None:
    for module in pkgutil.iter_modules(tests.bench.__path__):
        name = module.name.removeprefix("bench_")
        if module.name.startswith("bench_") and (not wanted or name in wanted):
            print(f"\n## {name}", flush=True)
            importlib.import_module(f"tests.bench.{module.name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
