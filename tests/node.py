"""Node for tests of the JavaScript client, and the client itself, installed and built."""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parent.parent / "clients" / "js"


@functools.cache
def node() -> str:
    """Returns the command: the machine's, or the one that `.ci/need-node` has put beside this Python."""
    for candidate in (shutil.which("node"), str(Path(sys.executable).parent / "node")):
        if candidate and Path(candidate).exists() and _version(candidate) >= 20:
            return candidate
    raise RuntimeError("Node 20 or newer is needed: .ci/need-node installs it")


@functools.cache
def javascript() -> Path:
    """Returns the folder of the client. The first of the tests' processes that asks installs and builds it."""
    with (CLIENT / ".tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CLIENT / "node_modules" / ".package-lock.json").exists():
            npm("ci", "--no-audit", "--no-fund")
        sources = [
            *(CLIENT / "src").glob("*.ts"),
            CLIENT / "build.mjs",
            CLIENT / "tsconfig.json",
            CLIENT / "package.json",
        ]
        built = CLIENT / "dist" / "cjs" / "package.json"
        if not built.exists() or built.stat().st_mtime < max(source.stat().st_mtime for source in sources):
            npm("run", "build")
    return CLIENT


def npm(*arguments: str, folder: Path = CLIENT) -> str:
    """Runs npm, and returns what it says."""
    done = subprocess.run(
        [str(Path(node()).parent / "npm"), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(node()).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"npm {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def _version(command: str) -> int:
    said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout
    return int(said.removeprefix("v").split(".")[0] or 0)
