"""The Python client as it is published: built, and installed where nothing of this tree is."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "clients" / "python"


def install_python_client(directory: Path) -> Path:
    """Builds it as `python -m build` does, with hatchling, and installs the wheel. Returns where it is installed."""
    building = (
        f"from hatchling import build; [make({str(directory)!r}) for make in (build.build_sdist, build.build_wheel)]"
    )
    subprocess.run([sys.executable, "-c", building], cwd=PROJECT, check=True, capture_output=True, timeout=60)
    assert list(directory.glob("*.tar.gz"))
    (wheel,) = directory.glob("*.whl")
    installed = directory / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=60)
    return installed
