import os
import stat
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hooks.dev import EmbeddedError
from hooks.dev.directory import DataDirectory, Ports, find_running

PORTS = Ports(1, 2, 3, 4)


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("IM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_secrets_are_made_once_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    first = DataDirectory.open(tmp_path / "data")
    first.close()
    second = DataDirectory.open(tmp_path / "data")
    second.close()
    assert first.secrets == second.secrets
    assert len(set(asdict(first.secrets).values())) == 8
    assert min(map(len, asdict(first.secrets).values())) >= 32
    file = tmp_path / "data" / "secrets.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.secrets.events_secret.startswith("whsec_")


def test_given_secrets_win_and_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IM_JWT_SECRET", "from the environment")
    Path("emqx-im.toml").write_text('jwt_secret = "from the file"\nadmin_token = "token of the file"\n')
    directory = DataDirectory.open(tmp_path / "data")
    directory.close()
    assert directory.secrets.jwt_secret == "from the environment"
    assert directory.secrets.admin_token == "token of the file"
    kept = (tmp_path / "data" / "secrets.json").read_text()
    assert "from the" not in kept
    assert "of the file" not in kept


def test_one_process_at_a_time(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    with pytest.raises(EmbeddedError, match=r"in use by another emqx-im dev"):
        DataDirectory.open(tmp_path)
    directory.close()
    DataDirectory.open(tmp_path).close()


def test_a_child_that_inherited_the_lock_holds_it(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[directory.lock], stdout=subprocess.DEVNULL
    )
    directory.close()
    with pytest.raises(EmbeddedError):
        DataDirectory.open(tmp_path)
    child.communicate(b"\n")
    DataDirectory.open(tmp_path).close()


@pytest.mark.parametrize("path", ["/proc/nowhere", "a-file/data"])
def test_a_directory_that_cannot_be_written(path: str) -> None:
    Path("a-file").touch()
    with pytest.raises(EmbeddedError, match=r"^data directory /\S+ cannot be written: [A-Z][a-z ]+$"):
        DataDirectory.open(Path(path))


def test_damaged_secrets(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(EmbeddedError, match="damaged"):
        DataDirectory.open(tmp_path)


@pytest.mark.parametrize("name", ["secrets.json", "lock"])
def test_a_link_in_the_directory_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedError, match="cannot be written: is a link"):
        DataDirectory.open(tmp_path / "data")
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = DataDirectory.open(tmp_path / "data")
    directory.announce(PORTS)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    assert find_running(tmp_path / "data") is None
    with pytest.raises(EmbeddedError, match="belongs to somebody else"):
        DataDirectory.open(tmp_path / "data")
    directory.close()


def test_find_running(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert find_running(path) is None
    directory = DataDirectory.open(path)
    assert find_running(path) is None
    directory.announce(PORTS)
    running = find_running(path)
    assert running is not None
    assert (running.pid, running.ports, running.secrets) == (os.getpid(), PORTS, directory.secrets)
    directory.close()
    assert find_running(path) is None


def test_what_a_killed_process_left_is_not_running(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    directory.announce(PORTS)
    os.close(directory.lock)
    assert (tmp_path / "running.json").exists()
    assert find_running(tmp_path) is None
