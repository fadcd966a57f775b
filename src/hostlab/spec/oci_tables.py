"""What the OCI runtime specification names, as data: kinds, limits, and what a node leaves out.

Each table of reasons is keyed by a property of one object of `config.json` (specification 1.3) and
says why a node does not carry it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RLIMITS: Final = frozenset(
    f"RLIMIT_{name}"
    for name in (
        *("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE"),
        *("NOFILE", "NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
    )
)
"""Resources of setrlimit(2)."""

NAMESPACES: Final[Mapping[str, str]] = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
"""The specification's name of a namespace, and the one in /proc/PID/ns."""

DEFAULT_DEVICES: Final[Mapping[str, tuple[int, int]]] = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
    "/dev/console": (5, 1),
    "/dev/ptmx": (5, 2),
    "/dev/pts": (136, -1),
}
"""Devices that every container has (config-linux.md, "Default Devices"), with their numbers."""

DEFAULT_CPU_PERIOD: Final = 100_000
"""The kernel's `cpu.cfs_period_us` in µs, when a quota comes without its period."""

_PLATFORM: Final = "for another platform, ignored on Linux"

TOP: Final[Mapping[str, str]] = {
    "domainname": "a node has no NIS domain name",
    "solaris": _PLATFORM,
    "windows": _PLATFORM,
    "vm": _PLATFORM,
    "zos": _PLATFORM,
    "freebsd": _PLATFORM,
}

HOOKS: Final[Mapping[str, str]] = dict.fromkeys(
    ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"),
    "no hooks are run",
)

PROCESS: Final[Mapping[str, str]] = {
    "terminal": "a job writes to its log and has no terminal; `hostlab exec` gives one",
    "consoleSize": "a job has no terminal",
    "selinuxLabel": "SELinux labels are not set",
    "ioPriority": "the I/O priority is not set",
    "scheduler": "the scheduling policy is not set",
    "execCPUAffinity": "processes that are added later have the node's CPUs",
    "commandLine": _PLATFORM,
}

USER: Final[Mapping[str, str]] = {"username": _PLATFORM}

LINUX: Final[Mapping[str, str]] = {
    "uidMappings": "a node has the lab's mapping of users",
    "gidMappings": "a node has the lab's mapping of groups",
    "cgroupsPath": "a node's cgroup is in the lab's",
    "intelRdt": "cache and memory bandwidth are not divided (resctrl)",
    "mountLabel": "SELinux labels are not set",
    "memoryPolicy": "memory is not bound to NUMA nodes",
    "netDevices": "devices of the machine are not moved into a node",
    "personality": "the execution domain is not changed",
}

RESOURCES: Final[Mapping[str, str]] = {
    "blockIO": "block devices are not limited",
    "hugepageLimits": "huge pages are not limited",
    "network": "packets are not marked by cgroup (net_cls, net_prio)",
    "rdma": "RDMA is not limited",
    "unified": "files of the cgroup are not written one by one",
}

MEMORY: Final[Mapping[str, str]] = {
    "reservation": "memory has no soft limit",
    "swap": "swap has no limit of its own",
    "kernel": "kernel memory has no limit of its own (gone from Linux 5.4)",
    "kernelTCP": "TCP buffers have no limit of their own",
    "swappiness": "the tendency to swap is not set",
    "disableOOMKiller": "the kernel ends a process of a node that is out of memory",
    "useHierarchy": "cgroups always account their children",
    "checkBeforeUpdate": "limits are set once, at the start",
}

CPU: Final[Mapping[str, str]] = {
    "shares": "CPU time has no weight, only a limit",
    "burst": "CPU time cannot be saved up",
    "realtimeRuntime": "real-time scheduling has no limit of its own",
    "realtimePeriod": "real-time scheduling has no limit of its own",
    "mems": "memory is not bound to NUMA nodes",
    "idle": "the scheduling class of a cgroup is not set",
}
