"""What processes have used, from /proc: the CPU of a PostgreSQL on this machine, the memory of this process."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def postmaster_of(backend: int, client_port: int | None) -> int | None:
    """The process that serves PostgreSQL here, found from one of our backends; None where it is on another machine.

    A backend names its client's port in its title: so a process that has its number by chance is not taken for it.
    """
    try:
        title = (_PROC / str(backend) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        mark = "[local]" if client_port is None else f"({client_port})"
        if not title.startswith("postgres") or mark not in title:
            return None
        return int(_fields(backend)[1])
    except (OSError, IndexError, ValueError):
        return None


def server_cpu_us(postmaster: int) -> int:
    """User and system CPU of a whole PostgreSQL in microseconds: every process of it, those that have ended too."""
    total = _ticks(postmaster, ended=True)
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                if int(_fields(int(entry.name))[1]) == postmaster:
                    total += _ticks(int(entry.name))
            except (OSError, IndexError, ValueError):
                continue
    return total * 1_000_000 // os.sysconf("SC_CLK_TCK")


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process now, and at its peak, in MB of 10^6 bytes; zeros where there is no /proc."""
    found = {"VmRSS": 0, "VmHWM": 0}
    try:
        lines = (_PROC / "self" / "status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0])
    return found["VmRSS"] * 1024 / 1e6, found["VmHWM"] * 1024 / 1e6


def machine() -> dict[str, Any]:
    """What figures were taken on."""
    model = ""
    try:
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpus": cpus, "cpu": model or platform.machine(), "python": platform.python_version()}


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, …"""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _ticks(pid: int, *, ended: bool = False) -> int:
    fields = _fields(pid)
    return sum(map(int, fields[11:15] if ended else fields[11:13]))
