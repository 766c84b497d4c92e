"""Files that only their owner may read: what holds secrets or users' messages.

The directory may be one that others write to. So such a file is always made new, never through a link, and nothing
that somebody else put in its place is written to, read, or taken over with its mode.
"""

import errno
import os
import stat
from pathlib import Path
from secrets import token_hex

MODE = 0o600


def write_private(file: Path, data: bytes, *, mode: int = MODE, durable: bool = False) -> None:
    """Writes a file whole or not at all, in the place of the one that is there.

    durable: it is on disk when this returns. Raises OSError if the place is taken by a link or by what is somebody
    else's, or where it cannot be written; nothing is left behind then.
    """
    _checked(file)
    temporary = file.with_name(f".{file.name}.{token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as opened:
            # The umask may have taken away what others need.
            os.fchmod(handle, mode)
            opened.write(data)
            opened.flush()
            if durable:
                os.fsync(handle)
            temporary.replace(file)
            if not os.path.samestat(os.fstat(handle), os.lstat(file)):
                raise _refusal(file, "somebody exchanged it while it was written; take a directory of your own")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_private(file: Path) -> bytes:
    """Reads a file of this user's. Raises OSError if there is none, or where it is a link or somebody else's."""
    handle = os.open(_checked(file), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        _check(file, os.fstat(handle))
        return opened.read()


def open_private(file: Path) -> int:
    """Returns a descriptor to read and write a file that is made if there is none; others' rights to it end.

    Raises OSError as `read_private` does.
    """
    handle = os.open(_checked(file), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        held = os.fstat(handle)
        _check(file, held)
        if rights := stat.S_IMODE(held.st_mode) & stat.S_IRWXO:
            os.fchmod(handle, stat.S_IMODE(held.st_mode) & ~rights)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _checked(file: Path) -> Path:
    """Returns the file. Raises OSError if something stands in its place that is not a file of this user's."""
    try:
        held = os.lstat(file)
    except FileNotFoundError:
        return file
    _check(file, held)
    return file


def _check(file: Path, held: os.stat_result) -> None:
    if stat.S_ISLNK(held.st_mode):
        raise _refusal(file, "is a link; take it away, or name the file that it leads to")
    if not stat.S_ISREG(held.st_mode):
        raise _refusal(file, "is not a file")
    if held.st_uid != os.geteuid():
        raise _refusal(file, "belongs to somebody else; take it away, or name another file")


def _refusal(file: Path, why: str) -> OSError:
    return OSError(errno.EPERM, why, str(file))
