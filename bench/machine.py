"""Where something was measured: numbers mean nothing without it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path


def describe() -> Mapping[str, str]:
    """CPU, cores, memory, kernel, Python and who measured; without names of machine or user."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": f"{_cpu_model()} ({platform.machine()})",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "system": _system(),
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "unprivileged",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def command() -> str:
    """The command that was given."""
    return " ".join(("python -m bench", *sys.argv[1:]))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()
