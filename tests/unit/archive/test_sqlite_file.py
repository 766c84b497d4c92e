"""The file of the SQLite archive: it holds everybody's messages."""

import os
import stat
from pathlib import Path

import pytest

from store.archive.archive import open_archive
from store.errors import ArchiveAway


async def test_only_its_owner_reads_it_and_what_lies_beside_it(tmp_path: Path) -> None:
    previous = os.umask(0)
    archive = open_archive(f"sqlite:///{tmp_path / 'archive.sqlite3'}")
    try:
        await archive.migrate()
        made = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
    finally:
        os.umask(previous)
        await archive.close()
    assert set(made) >= {"archive.sqlite3", "archive.sqlite3-wal"}
    assert set(made.values()) == {0o600}


async def test_others_lose_their_rights_to_one_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "archive.sqlite3"
    file.touch()
    file.chmod(0o644)
    archive = open_archive(f"sqlite:///{file}")
    await archive.migrate()
    await archive.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["archive.sqlite3", "archive.sqlite3-wal"])
async def test_a_link_that_somebody_laid_is_not_followed(name: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / name).symlink_to(elsewhere)
    archive = open_archive(f"sqlite:///{tmp_path / 'archive.sqlite3'}")
    with pytest.raises(ArchiveAway, match=r"archive\.sqlite3: "):
        await archive.migrate()
    await archive.close()
    assert not elsewhere.exists()
