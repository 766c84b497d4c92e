"""Uses what the kernel offers for a tree of processes."""

import ctypes
import os
import signal
import sys

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Makes the kernel send this process the signal when the thread that started it ends, however it ends.  parent:
    the process that started it, if known for certain: it may have ended already. Works on Linux only.
    """
    parent = parent or os.getppid()
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
