import re

import pytest

from store.archive.archive import open_archive
from store.archive.mysql.archive import MySQLArchive
from store.archive.sqlite.archive import SQLiteArchive


@pytest.mark.parametrize(
    "url",
    [
        "mysql://im:secret@db.example:3307/im",
        "mysql://im:p%40ss%2Fword@[::1]/im",
        "mysql://root@localhost/im",
    ],
)
def test_mysql(url: str) -> None:
    assert isinstance(open_archive(url), MySQLArchive)


@pytest.mark.parametrize("url", ["sqlite:////var/lib/im.db", "sqlite:///im.db"])
def test_sqlite(url: str) -> None:
    assert isinstance(open_archive(url), SQLiteArchive)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "mysql:// or sqlite:///"),
        ("postgres://secret@db/im", "not postgres"),
        ("mysql://im:secret@db", "no database"),
        ("mysql://im:secret@db/", "no database"),
        ("mysql://im:secret@db/a/b", "no database"),
        ("mysql:///im", "no host"),
        ("mysql://im:secret@db:port/im", "host or port"),
        ("mysql://im:secret@db:99999/im", "host or port"),
        ("mysql://im:secret/x@db/im", "host or port"),
        ("mysql://im:secret@db/im?ssl=1", "after ?"),
        ("sqlite://im.db", "three slashes"),
        ("sqlite://", "no file"),
        ("sqlite:///", "no file"),
        ("sqlite:///im/", "no file"),
    ],
)
def test_a_malformed_address_is_named_without_its_secret(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        open_archive(url)
    assert "secret" not in str(caught.value)
