"""The names of Linux capabilities, and those a node has unless it says otherwise."""

from __future__ import annotations

from hostlab.spec.source import Wrong, quoted

_DEFAULT = """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT
    """
DEFAULT = frozenset(_DEFAULT.split())
"""Docker's set with NET_ADMIN and NET_BROADCAST.

A node is a host that people configure: it sets addresses, routes and firewall rules of its own
network namespace, which is all that NET_ADMIN reaches there. What a namespace does not contain
(modules, the clock, raw I/O, tracing of others, mounting over the masked paths) stays out.
"""

_ALL = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN
    MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID
    SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE
    SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
    """
ALL = frozenset(_ALL.split())
"""Every one that Linux 6.18 has (include/uapi/linux/capability.h)."""


def capability(word: str) -> str:
    """The name without `CAP_`, in capitals; `ALL` stands for every one."""
    name = word.upper().removeprefix("CAP_")
    if name not in ALL and name != "ALL":
        raise Wrong(f"{quoted(word)} is not a capability")
    return name


def file_capabilities(word: str) -> str:
    """What setcap(8) takes: `cap_net_raw,cap_net_admin+ep`."""
    for clause in word.split():
        names, flags = _split(clause)
        if not flags or set(flags) - set("eip"):
            raise Wrong(f"{quoted(word)} is not a list of file capabilities", "as `cap_net_raw+ep`")
        for name in names.split(","):
            if not name.lower().startswith("cap_") and name.lower() != "all":
                raise Wrong(f"{quoted(name)} is not a capability", f"did you mean `cap_{name}`?")
            capability(name)
    if not word.strip():
        raise Wrong("no capability is named", "as `cap_net_raw+ep`")
    return " ".join(word.lower().split())


def _split(clause: str) -> tuple[str, str]:
    for operator in "+=":
        names, found, flags = clause.partition(operator)
        if found:
            return names, flags
    return clause, ""
