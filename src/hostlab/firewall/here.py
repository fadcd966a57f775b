"""Tools of this machine, run on the machine's own network or in another process' namespace.

In a node a tool could not load much: one netlink message has to fit into the socket's buffer, and
to make that larger than net.core.wmem_max asks for CAP_NET_ADMIN in the machine's user namespace
(socket(7), SO_SNDBUFFORCE). So where the caller has that, a stage's own tools, which are no
script, enter the node's network and nothing else of it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hostlab.errors import Unsupported
from hostlab.firewall.kernel import Run
from hostlab.lab.access import Completed
from hostlab.linux.entering import enter_namespaces

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
LOCK: Final = {"XTABLES_LOCKFILE": "/dev/null"}
"""The lock of legacy iptables is the machine's own: a stage must not wait for it, nor hold it."""


def run_here(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
) -> Completed:
    """Run a program here; TimeoutError when it is late, Unsupported when it is not installed."""
    return _run(argv, stdin, timeout_s, {}, None)


def inside(pid: int) -> Run:
    """What runs this machine's tools in the network namespace of a process.

    Root stays in the machine's user namespace; others enter the process' own, whose owner they are.
    """
    kinds = ("net",) if os.geteuid() == 0 else ("user", "net")

    def run(
        argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
    ) -> Completed:
        pidfd = os.pidfd_open(pid)
        try:
            return _run(argv, stdin, timeout_s, LOCK, lambda: enter_namespaces(pid, pidfd, kinds))
        finally:
            os.close(pidfd)

    return run


def _run(
    argv: Sequence[str],
    stdin: bytes,
    timeout_s: float | None,
    environment: Mapping[str, str],
    enter: Callable[[], None] | None,
) -> Completed:
    path = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
            env={**os.environ, "PATH": path, "LC_ALL": "C", **environment},
            preexec_fn=enter,  # the CLI has one thread
        )
    except FileNotFoundError:
        hint = "apt-get install nftables iptables ipset iproute2"
        raise Unsupported("no-tool", f"{argv[0]} is not here", hint=hint) from None
    except subprocess.TimeoutExpired as late:
        raise TimeoutError(f"{argv[0]} has not ended in time") from late
    number = -done.returncode if done.returncode < 0 else None
    status = 128 + number if number is not None else done.returncode
    return Completed(status, number, done.stdout, done.stderr)
