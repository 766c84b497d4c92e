"""Files with secrets and messages, in a directory that others write to as well."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from store.private_files import open_private, read_private, write_private


def mode(file: Path) -> int:
    return stat.S_IMODE(file.lstat().st_mode)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


def test_what_is_written_is_whole_and_its_owners_alone(shared: Path) -> None:
    file = shared / "secrets"
    previous = os.umask(0)
    try:
        write_private(file, b"one", durable=True)
    finally:
        os.umask(previous)
    assert (file.read_bytes(), mode(file)) == (b"one", 0o600)
    assert read_private(file) == b"one"
    assert os.listdir(shared) == ["secrets"]


def test_what_others_may_read_is_so_whatever_the_umask(shared: Path) -> None:
    previous = os.umask(0o077)
    try:
        write_private(shared / "acl.conf", b"", mode=0o644)
    finally:
        os.umask(previous)
    assert mode(shared / "acl.conf") == 0o644


def test_an_own_file_that_others_read_is_exchanged_not_written_to(shared: Path) -> None:
    file = shared / "secrets"
    file.write_bytes(b"old")
    file.chmod(0o666)
    reader = file.open("rb")
    write_private(file, b"new")
    with reader:
        assert reader.read() == b"old"
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)


def write(file: Path) -> None:
    write_private(file, b"new")


def read(file: Path) -> None:
    read_private(file)


def lock(file: Path) -> None:
    os.close(open_private(file))


USES: list[Callable[[Path], None]] = [write, read, lock]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("leads_to", ["a file", "nothing"])
def test_a_link_is_refused(use: Callable[[Path], None], leads_to: str, shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if leads_to == "a file":
        target.write_bytes(b"old")
    (shared / "secrets").symlink_to(target)
    with pytest.raises(OSError, match="is a link") as refused:
        use(shared / "secrets")
    assert refused.value.filename == str(shared / "secrets")
    assert not target.exists() or target.read_bytes() == b"old"
    assert os.listdir(shared) == ["secrets"]


@pytest.mark.parametrize("use", USES)
def test_what_is_no_file_is_refused(use: Callable[[Path], None], shared: Path) -> None:
    os.mkfifo(shared / "secrets")
    with pytest.raises(OSError, match="is not a file"):
        use(shared / "secrets")


@pytest.mark.parametrize("use", USES)
def test_a_file_of_somebody_else_is_refused(
    use: Callable[[Path], None], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shared / "secrets").write_bytes(b"planted")
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(OSError, match="belongs to somebody else"):
        use(shared / "secrets")
    assert (shared / "secrets").read_bytes() == b"planted"
    assert os.listdir(shared) == ["secrets"]


def test_a_link_that_is_put_there_meanwhile_is_not_followed(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    (shared / "secrets").symlink_to(target)
    unseen = os.stat_result((stat.S_IFREG | 0o600, 0, 0, 1, os.geteuid(), 0, 0, 0, 0, 0))
    with monkeypatch.context() as patched:
        patched.setattr(os, "lstat", lambda path: unseen)
        with pytest.raises(OSError, match="symbolic links"):
            read_private(shared / "secrets")
        with pytest.raises(OSError, match="symbolic links"):
            open_private(shared / "secrets")
        with pytest.raises(OSError, match="somebody exchanged it"):
            write_private(shared / "secrets", b"new")
    assert target.read_bytes() == b"old"


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(shared / "secrets", b"old")

    def full(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_private(shared / "secrets", b"new", durable=True)
    assert (shared / "secrets").read_bytes() == b"old"
    assert os.listdir(shared) == ["secrets"]


def test_others_lose_their_rights_to_a_file_that_is_there(shared: Path) -> None:
    file = shared / "archive"
    os.close(open_private(file))
    assert mode(file) == 0o600
    file.chmod(0o646)
    os.close(open_private(file))
    assert mode(file) == 0o640
