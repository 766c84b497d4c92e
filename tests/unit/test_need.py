"""Tests what `make` and `.ci/run` do about missing system packages, with commands that only pretend."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NEED = Path(__file__).parents[2] / ".ci" / "need"
MEANT = {
    "redis-server": "redis-server",
    "mariadbd": "mariadb-server",
    "mosquitto_pub": "mosquitto-clients",
    "faketime": "faketime",
    "curl": "curl",
}
"""The package of each command of the set `servers`."""


@dataclass
class Machine:
    """A directory of pretended commands, the only ones of its PATH; each writes its call to `calls`."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, name: str, script: str = "exit 0") -> None:
        path = self.directory / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.directory}.calls"\n{script}\n')
        path.chmod(0o755)

    def need(self, *sets: str) -> subprocess.CompletedProcess[str]:
        bash = shutil.which("bash") or "/bin/bash"
        environment = {"PATH": str(self.directory), **self.environment}
        return subprocess.run([bash, NEED, *sets], capture_output=True, text=True, env=environment, timeout=60)

    def calls(self) -> list[str]:
        return Path(f"{self.directory}.calls").read_text().splitlines()

    def lacks(self) -> list[str]:
        """Packages of `servers`: the script looks into the directories of system programs, too."""
        path = f"{self.directory}:/usr/local/sbin:/usr/sbin:/sbin"
        return [package for command, package in MEANT.items() if shutil.which(command, path=path) is None]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Debian, as root, with Python and make, and without the servers."""
    directory = tmp_path / "bin"
    directory.mkdir()
    machine = Machine(directory)
    machine.command("id", "echo 0")
    machine.command("env", 'shift; exec "$@"')
    for name in ("apt-get", "git", "make", "python3", "true"):
        machine.command(name)
    return machine


def test_where_all_is_there_nothing_is_said_or_installed(machine: Machine) -> None:
    for command in MEANT:
        machine.command(command)
    done = machine.need("tools", "python", "servers")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not any(call.startswith("apt-get") for call in machine.calls())


def test_what_is_missing_is_said_and_then_installed(machine: Machine) -> None:
    done = machine.need("tools", "python", "servers")
    packages = " ".join(machine.lacks())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip().endswith(f": {packages}")
    install = [call for call in machine.calls() if call.startswith("apt-get install")]
    assert install == [f"apt-get install -y -qq --no-install-recommends {packages}"]


@pytest.mark.parametrize(("user", "command"), [("0", "apt-get"), ("1000", "sudo apt-get")])
def test_with_install_no_one_command_names_all_and_nothing_is_installed(
    machine: Machine, user: str, command: str
) -> None:
    machine.command("id", f"echo {user}")
    machine.command("sudo")
    machine.environment["INSTALL"] = "no"
    done = machine.need("tools", "python", "servers")
    assert done.returncode == 1
    assert "INSTALL=no" in done.stderr
    line = f"    {command} install --no-install-recommends {' '.join(machine.lacks())}"
    assert done.stderr.splitlines()[1:] == [line]
    assert not any(call.startswith(("apt-get", "sudo")) for call in machine.calls())


def test_without_root_they_are_named(machine: Machine) -> None:
    machine.command("id", "echo 1000")
    machine.command("sudo", "exit 1")
    done = machine.need("servers")
    assert done.returncode == 1
    assert "root" in done.stderr
    assert done.stderr.splitlines()[1:] == [
        f"    sudo apt-get install --no-install-recommends {' '.join(machine.lacks())}"
    ]
    assert not any(call.startswith("apt-get") for call in machine.calls())


def test_with_sudo_that_asks_for_no_password_they_are_installed(machine: Machine) -> None:
    machine.command("id", "echo 1000")
    machine.command("sudo", 'shift; exec "$@"')
    assert machine.need("servers").returncode == 0
    assert any(call.startswith("sudo -n env DEBIAN_FRONTEND") for call in machine.calls())


def test_without_apt_get_they_are_named(machine: Machine) -> None:
    (machine.directory / "apt-get").unlink()
    done = machine.need("servers")
    assert done.returncode == 1
    assert " ".join(machine.lacks()) in done.stderr


@pytest.mark.parametrize(("python", "package"), [("python3", "python3-venv"), ("python3.12", "python3.12-venv")])
def test_a_python_that_makes_no_virtual_environments_lacks_a_package(
    machine: Machine, python: str, package: str
) -> None:
    machine.command(python, "exit 1")
    machine.environment.update(INSTALL="no", PYTHON=python)
    done = machine.need("python")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [f"    apt-get install --no-install-recommends {package}"]


def test_a_missing_python_is_named_with_all_it_takes(machine: Machine) -> None:
    (machine.directory / "python3").unlink()
    (machine.directory / "git").unlink()
    machine.environment["INSTALL"] = "no"
    done = machine.need("tools", "python")
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["    apt-get install --no-install-recommends git python3 python3-venv"]


def test_a_set_that_there_is_not_is_refused(machine: Machine) -> None:
    done = machine.need("serves")
    assert (done.returncode, done.stderr) == (2, "need: no set is called serves\n")
