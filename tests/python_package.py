"""The Python client as it is published: built, and installed where nothing of this tree is."""

import subprocess
import sys
import tarfile
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "clients" / "python"


def install_python_client(directory: Path, *, of_sources: bool = False) -> Path:
    """Builds it as `python -m build` does, with hatchling: the wheel is made of what the sources' archive has. Installs
    the wheel, or the archive itself. Returns where it is installed.
    """
    _build("sdist", PROJECT, directory)
    (sources,) = directory.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        archive.extractall(directory, filter="data")
    _build("wheel", directory / sources.name.removesuffix(".tar.gz"), directory)
    (wheel,) = directory.glob("*.whl")
    installed = directory / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    package = sources if of_sources else wheel
    subprocess.run([*pip, "--target", str(installed), str(package)], check=True, capture_output=True, timeout=60)
    return installed


def _build(kind: str, project: Path, directory: Path) -> None:
    program = f"from hatchling import build; build.build_{kind}({str(directory)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=project, check=True, capture_output=True, timeout=60)
