"""Tools run by this process, as a node's `execute` runs them in a node: here, or in its network.

A node's root may not enlarge a netlink socket's buffer beyond net.core.wmem_max (SO_SNDBUFFORCE
wants CAP_NET_ADMIN in the first user namespace), so in a node nft and iptables-restore load some
hundred rules at once and no more. The machine's root in the node's network may.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Unsupported
from hostlab.firewall.kernel import Run, Tables
from hostlab.lab.access import Completed
from hostlab.linux import nftables
from hostlab.linux.entering import from_inside
from hostlab.linux.running import run_inside, usual_environment

LEGACY_TABLES: Final = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}
"""A family -> the file below /proc/PID/net that names its tables of legacy iptables, if any."""
NO_LOCK: Final = "/dev/null"
"""The lock of legacy iptables is the machine's own: what works elsewhere must not wait for it."""


def run_here(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
) -> Completed:
    """Run a program here; TimeoutError when it is late, Unsupported when it is not installed."""
    return _run_here(argv, stdin=stdin, timeout_s=timeout_s)


def holding(lock: int) -> Run:
    """`run_here` for tools that hold a lock's descriptor as long as they live.

    A tool may outlive who started it and was killed: nobody may have the lock before its end. It is
    no part of the terminal's foreground, so ^C does not end it half-way.
    """

    def run(
        argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
    ) -> Completed:
        return _run_here(argv, stdin=stdin, timeout_s=timeout_s, pass_fds=(lock,), process_group=0)

    return run


def _run_here(
    argv: Sequence[str],
    *,
    stdin: bytes,
    timeout_s: float | None,
    pass_fds: tuple[int, ...] = (),
    process_group: int | None = None,
) -> Completed:
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
            env=usual_environment(),
            pass_fds=pass_fds,
            process_group=process_group,
        )
    except FileNotFoundError:
        raise _absent(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{argv[0]} has not ended in time") from None
    return _completed(done.returncode, done.stdout, done.stderr)


def run_in_network(
    pid: int, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
) -> Completed:
    """Run a program of this machine in the network namespace of a process, as who runs this.

    Errors as of `run_here`; OSError EPERM for who does not own that namespace from outside.
    """
    environment = {**usual_environment(), "XTABLES_LOCKFILE": NO_LOCK}
    try:
        done = run_inside(
            pid, ("net",), argv, stdin=stdin, timeout_s=timeout_s, environment=environment
        )
    except FileNotFoundError:
        raise _absent(argv[0]) from None
    return _completed(*done)


def tables_in_network(pid: int) -> Tables:
    """The tables that there are in the network namespace of a process."""

    def work() -> tuple[bytes, Sequence[int]]:
        return "\n".join(f"{family} {name}" for family, name in nftables.tables()).encode(), ()

    answer, _ = from_inside(pid, ("user", "net"), work)
    lines = (line.partition(" ") for line in answer.decode().split("\n") if line)
    legacy = (family for family, name in LEGACY_TABLES.items() if _names_any(pid, name))
    return Tables([(family, name) for family, _, name in lines], frozenset(legacy))


def _names_any(pid: int, name: str) -> bool:
    """Whether one of `LEGACY_TABLES` names any; iptables-legacy-save reads nothing else, either."""
    try:
        with open(f"/proc/{pid}/net/{name}", "rb") as file:
            return bool(file.read(1))
    except FileNotFoundError:
        return False
    except PermissionError:
        return True


def _completed(returncode: int, out: bytes, error: bytes) -> Completed:
    number = -returncode if returncode < 0 else None
    status = 128 + number if number is not None else returncode
    return Completed(status, number, out, error)


def _absent(name: str) -> Unsupported:
    hint = "apt-get install nftables iptables ipset iproute2"
    return Unsupported("no-tool", f"{name} is not here", hint=hint)
