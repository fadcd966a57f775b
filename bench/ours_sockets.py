"""The seam to hostlab's sockets: an init with a service, and the services, in C."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import ours, ours_init

DEADLINE_S = 60.0
ECHO = r"""
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    char buffer[64];
    int fd = accept(3, 0, 0);
    ssize_t size = fd < 0 ? 0 : read(fd, buffer, sizeof buffer);
    return size > 0 && write(fd, buffer, size) == size ? 0 : 1;
}
"""
"""Takes one connection of the socket that it was given, as systemd does it, and ends."""
LINE = r"""
#include <unistd.h>
int main(void) {
    char buffer[64];
    ssize_t size = read(0, buffer, sizeof buffer);
    return size > 0 && write(1, buffer, size) == size ? 0 : 1;
}
"""
"""Is given a connection as standard input and output, as inetd does it."""


def compiler_missing() -> str | None:
    """Why no service can be made."""
    if shutil.which("cc") is None:
        return "no C compiler: apt-get install gcc libc6-dev"
    return ours.cli_missing()


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hostlab-bench-")


@functools.cache
def service(text: str) -> str:
    """The path of a service, compiled once."""
    path = Path(_directory().name, f"service{abs(hash(text))}")
    source = path.with_suffix(".c")
    source.write_text(text, encoding="ascii")
    subprocess.run(["cc", "-O2", "-o", path, source], check=True, timeout=DEADLINE_S)
    return str(path)


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def until(condition: Callable[[], bool], what: str) -> None:
    """Ask again until it holds; TimeoutError."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {DEADLINE_S:g} s: {what}")
        ours_init.pause()


class Init:
    """`hostlab init` with one job; a context manager."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._scratch = tempfile.TemporaryDirectory(prefix="hostlab-bench-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Init:
        jobs = Path(self._scratch.name, "jobs")
        jobs.mkdir()
        (jobs / "service.conf").write_text(self._job, encoding="ascii")
        argv = ours.command("init", "--confdir", str(jobs), "--logdir", f"{self._scratch.name}/log")
        environment = {**os.environ, ours.RUN_VARIABLE: f"{self._scratch.name}/run"}
        self._process = subprocess.Popen(argv, env=environment)
        try:
            until(self._is_there, "an init")
            self._client().wait_settled(within_s=DEADLINE_S)
        except BaseException:
            self._end()
            raise
        return self

    def _client(self) -> Any:
        module = importlib.import_module("hostlab.init.client")
        run = Path(self._scratch.name, "run")
        found = next(run.rglob("control.sock"), None)
        return None if found is None else module.LocalInit(str(found.parent))

    def _is_there(self) -> bool:
        client = self._client()
        return client is not None and bool(client.is_there())

    def wait_stopped(self) -> None:
        """Until the service does not run."""
        client = self._client()
        until(lambda: client.job_table()[0]["state"] != "running", "the service's end")

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        below = ours.descendants((self._process.pid,)) - {self._process.pid}
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            ours_init.end_all(below)
            self._scratch.cleanup()
