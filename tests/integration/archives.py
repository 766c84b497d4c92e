"""Gives all services on one Redis one archive: what one of them has archived, another may have to read."""

from pathlib import Path

_SHARED: dict[str, str] = {}


def share(redis_url: str, directory: Path) -> None:
    """Makes all services on this Redis use an archive in this folder, until the run ends."""
    _SHARED[redis_url] = _archive_in(directory)


def archive_for(redis_url: str, directory: Path) -> str:
    """Returns the archive of a service: that of its Redis, or one in the folder if that Redis is the test's own."""
    return _SHARED.get(redis_url) or _archive_in(directory)


def _archive_in(directory: Path) -> str:
    return f"sqlite:///{directory / 'archive.db'}"
