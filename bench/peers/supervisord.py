"""supervisord with programs that sleep, as many as an init of ours has jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench import ours_init
from bench.peers.network import OWN_ENVIRONMENT

DESCRIPTORS_EACH = 4
"""Two pipes and a log of each program; it closes as many in each child."""
HEAD = """[supervisord]
nodaemon=true
minfds={descriptors}
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}
identifier=bench
[unix_http_server]
file={directory}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """[program:{name}]
command={program} infinity
startsecs=0
redirect_stderr=true
"""


def supervisord_missing() -> str | None:
    """Why it cannot be measured, with the way to get it; None when it can."""
    if _command() is None:
        return (
            "supervisord is not installed: python3 -m venv .venv-bench && "
            ".venv-bench/bin/pip install supervisor setuptools"
        )
    return None


def _command() -> str | None:
    own = OWN_ENVIRONMENT.with_name("supervisord")
    return str(own) if own.exists() else shutil.which("supervisord")


class Supervisord:
    """supervisord while all of its programs run; a context manager."""

    def __init__(self, count: int) -> None:
        self._count = count
        directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._scratch = tempfile.TemporaryDirectory(prefix="hostlab-bench-", dir=directory)
        self._process: subprocess.Popen[bytes] | None = None
        self.running_s = 0.0

    def __enter__(self) -> Supervisord:
        command = _command()
        assert command, "asked for by supervisord_missing()"
        descriptors = max(1024, 48 + DESCRIPTORS_EACH * self._count)
        text = HEAD.format(directory=self._scratch.name, descriptors=descriptors)
        for at in range(self._count):
            name = ours_init.job_name(at)
            text += PROGRAM.format(name=name, program=ours_init.PROGRAM)
        path = Path(self._scratch.name, "supervisord.conf")
        path.write_text(text, encoding="ascii")
        begin = time.perf_counter()
        self._process = subprocess.Popen((command, "-c", str(path)), stdout=subprocess.DEVNULL)
        try:
            ours_init.wait_executing(self._process.pid, self._count)
            self.running_s = time.perf_counter() - begin
        except BaseException:
            self._end()
            raise
        return self

    @property
    def pid(self) -> int:
        """Its one process."""
        assert self._process is not None
        return self._process.pid

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        below = ours_init.children(self._process.pid)
        self._process.kill()
        self._process.wait()
        ours_init.end_all(below)
        self._scratch.cleanup()
