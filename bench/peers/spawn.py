"""Tools that make or enter namespaces for one command: unshare, bwrap, nsenter."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable

TRUE = "/bin/true"


def command_missing(command: str, package: str) -> str | None:
    """Why a command cannot be measured, with the way to get it; None when it is here."""
    if shutil.which(command):
        return None
    return f"{command} is not installed: apt-get install {package}"


def mean_ms(action: Callable[[], object], times: int) -> float:
    """Milliseconds that `action` takes, the mean of so many in a row."""
    begin = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - begin) / times * 1e3


def unshare_true(times: int) -> float:
    """Milliseconds of `unshare` with every namespace but the user's, running `true`."""
    argv = ("unshare", "-m", "-u", "-n", "-p", "-i", "-C", "-f", TRUE)
    return mean_ms(lambda: spawn(argv), times)


def bwrap_true(times: int) -> float:
    """Milliseconds of bubblewrap with every namespace, running `true` on the machine's own root."""
    argv = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--", TRUE)
    return mean_ms(lambda: spawn(argv), times)


def unshare_mounts_true(times: int) -> float:
    """Milliseconds of `unshare` with a mount namespace only, which changes nothing there."""
    return mean_ms(lambda: spawn(("unshare", "-m", TRUE)), times)


def bwrap_mounts_true(times: int) -> float:
    """Milliseconds of bubblewrap with a mount namespace: its own /tmp, /usr read-only."""
    argv = ("bwrap", "--dev-bind", "/", "/", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp")
    return mean_ms(lambda: spawn((*argv, "--ro-bind", "/usr", "/usr", "--", TRUE)), times)


def systemd_run_missing() -> str | None:
    """Why systemd-run cannot be measured; None when it can."""
    if not os.path.isdir("/run/systemd/system"):
        return "systemd does not run here (sd_booted(3))"
    return command_missing("systemd-run", "systemd")


def systemd_run_true(times: int) -> float:
    """Milliseconds of a transient service that waits for its end."""
    argv = ("systemd-run", "--quiet", "--wait", "--collect", "-p", "PrivateTmp=yes")
    return mean_ms(lambda: spawn((*argv, "-p", "ReadOnlyPaths=/usr", TRUE)), times)


def nsenter_argv(pid: int) -> tuple[str, ...]:
    """Enter every namespace of a node and run `true` there."""
    return ("nsenter", "-t", str(pid), "-U", "-m", "-u", "-i", "-n", "-p", "-C", "--", TRUE)


def nsenter_by_subprocess(pid: int, times: int) -> float:
    """Milliseconds of nsenter as a Python library runs it."""
    argv = nsenter_argv(pid)
    return mean_ms(lambda: subprocess.run(argv, check=True), times)


def nsenter_by_posix_spawn(pid: int, times: int) -> float:
    """Milliseconds of nsenter as a C program runs it: posix_spawn(3) and waitpid(2)."""
    argv = nsenter_argv(pid)
    return mean_ms(lambda: spawn(argv), times)


def spawn(argv: tuple[str, ...]) -> None:
    """Run a command to its end; RuntimeError when it fails."""
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(argv)}: exit status {os.waitstatus_to_exitcode(status)}")
