"""Reads what processes use, as the kernel counts it."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"


def memory(*pids: int) -> float:
    """MiB of these processes together; what they share with others counts in part (PSS)."""
    return sum(_kilobytes(pid) for pid in pids) / 1024


def _kilobytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def processor(*pids: int) -> float:
    """Returns seconds of processor time these processes took so far."""
    return sum(_ticks(pid) for pid in pids) / _TICKS


def listeners(port: int) -> int:
    """Sockets that listen on this port of 127.0.0.1, or of all addresses."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == _LISTEN for line in lines)


def _ticks(pid: int) -> int:
    # The name before the last parenthesis may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
