"""Tools run by this process, as a node's `execute` runs them in a node: here, or in its network.

A node's root may not enlarge a netlink socket's buffer beyond net.core.wmem_max (SO_SNDBUFFORCE
wants CAP_NET_ADMIN in the first user namespace), so in a node nft and iptables-restore load some
hundred rules at once and no more. The machine's root in the node's network may.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Unsupported
from hostlab.firewall.kernel import Tables
from hostlab.lab.access import Completed
from hostlab.linux import nftables
from hostlab.linux.entering import from_inside

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""A plain user's PATH lacks them."""
NO_LOCK: Final = "/dev/null"
"""The lock of legacy iptables is the machine's own: what works elsewhere must not wait for it."""


def run_here(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
) -> Completed:
    """Run a program here; TimeoutError when it is late, Unsupported when it is not installed."""
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout_s,
            env=_environment(),
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
    outputs = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdin", "stdout", "stderr")]
    try:
        _write_all(outputs[0], stdin)
        os.lseek(outputs[0], 0, os.SEEK_SET)

        def work() -> tuple[bytes, Sequence[int]]:
            given, out, error = outputs
            try:
                done = subprocess.run(
                    argv,
                    stdin=given,
                    stdout=out,
                    stderr=error,
                    check=False,
                    timeout=timeout_s,
                    env={**_environment(), "XTABLES_LOCKFILE": NO_LOCK},
                )
            except subprocess.TimeoutExpired:
                return b"late", ()
            return str(done.returncode).encode(), ()

        try:
            answer, _ = from_inside(pid, ("net",), work)
        except FileNotFoundError:
            raise _absent(argv[0]) from None
        if answer == b"late":
            raise TimeoutError(f"{argv[0]} has not ended in time")
        return _completed(int(answer), *(_whole(fd) for fd in outputs[1:]))
    finally:
        for fd in outputs:
            os.close(fd)


def tables_in_network(pid: int) -> Tables:
    """What lists the nf_tables tables of the network namespace of a process."""

    def work() -> tuple[bytes, Sequence[int]]:
        return "\n".join(f"{family} {name}" for family, name in nftables.tables()).encode(), ()

    def listed() -> tuple[tuple[str, str], ...]:
        answer, _ = from_inside(pid, ("user", "net"), work)
        lines = (line.partition(" ") for line in answer.decode().split("\n") if line)
        return tuple((family, name) for family, _, name in lines)

    return listed


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}", "LC_ALL": "C"}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _whole(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def _completed(returncode: int, out: bytes, error: bytes) -> Completed:
    number = -returncode if returncode < 0 else None
    status = 128 + number if number is not None else returncode
    return Completed(status, number, out, error)


def _absent(name: str) -> Unsupported:
    hint = "apt-get install nftables iptables ipset iproute2"
    return Unsupported("no-tool", f"{name} is not here", hint=hint)
