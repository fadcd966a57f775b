"""Labs of a test's own: staged in a run directory of their own, gone at its end."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostlab import spec
from hostlab.lab import driver, remains
from hostlab.spec.oci import bundle
from hostlab.sync import Lab

DEADLINE_S = 60.0


def probe() -> None:
    """Skip where no lab can be staged at all."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare(1) to try namespaces with")
    if not _can_unshare():
        pytest.skip("namespaces cannot be made here")


@functools.cache
def _can_unshare() -> bool:
    tried = ["unshare", "-U", "-r", "-n", "-m", "true"]
    return not subprocess.run(tried, capture_output=True, check=False).returncode


def needs_hostlab_in_nodes() -> None:
    """Skip where a node cannot see hostlab's own files: some directories each has for itself."""
    import hostlab

    own = ("/tmp/", "/run/", "/dev/")
    if os.path.realpath(hostlab.__file__).startswith(own):
        pytest.skip("here: hostlab lies in a directory that each node has for itself")


def free_port() -> int:
    """A port of this machine that nobody has, and that no connection out of it is given."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as said:
        end = int(said.read().split()[0])
    for port in random.sample(range(min(15_000, end - 1000), end), 1000):
        with socket.socket() as tcp, contextlib.suppress(OSError):
            tcp.bind(("0.0.0.0", port))
            return port
    raise AssertionError("no port is free")


def described(name: str, text: str) -> spec.Lab:
    """A description from YAML, under a name that no other test run has."""

    def read(path: str) -> bytes:
        return Path(path).read_bytes()

    data = f"name: {name}\n{text}".encode()
    return spec.load(data, file="test.yaml", read=read, oci=bundle, directory="/", seed=None)


class Site:
    """One name; each `up` of it changes what is there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def up(self, text: str) -> Lab:
        """Stage this description, or change the running lab into it."""
        lab = Lab(described(self.name, text))
        lab.up()
        return lab


@contextmanager
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str = "test") -> Iterator[Site]:
    """A place for one lab; nothing of it is left afterwards.

    A lab that a module's tests share is of another kind than those of single tests beside it.
    """
    probe()
    monkeypatch.setenv("HOSTLAB_RUN", str(tmp_path / "run"))
    name = f"{kind}-{os.getpid()}"
    with ExitStack() as stack:
        stack.callback(_take_down, name)
        yield Site(name)


def _take_down(name: str) -> None:
    driver.unstage(name)
    assert not remains.marked_processes(name)
    assert not remains.lab_cgroups(name)


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = DEADLINE_S) -> None:
    """Ask again until it holds, for what no descriptor tells of; fails after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        select.select([], [], [], 0.02)


def assert_holds(lab: Lab) -> None:
    """Its checks hold; on a slow machine a second time that they may take, or a third."""
    deadline = time.monotonic() + DEADLINE_S
    while not (report := lab.check()).ok:
        assert time.monotonic() < deadline, "\n".join(map(str, report.rows))
    assert report.rows
