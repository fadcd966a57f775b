"""A program of this machine in the namespaces of another process, with its input and its output.

What goes in and comes out lies in memfds: of any size, and the program never waits for a reader.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hostlab.linux.entering import from_inside

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""A plain user's PATH lacks them."""
_LATE: Final = b"late"


class Ended(NamedTuple):
    """How a program ended; a number below zero is that of a signal."""

    returncode: int
    stdout: bytes
    stderr: bytes


def usual_environment() -> dict[str, str]:
    """This process' own, with the places of the administrator's tools and messages in English."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}", "LC_ALL": "C"}


def run_inside(
    pid: int,
    kinds: Sequence[str],
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program in namespaces of process `pid`, as who runs this.

    FileNotFoundError when there is no such program, TimeoutError when it is late, else OSError as
    of `from_inside`: EPERM for who does not own the namespaces.
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
                    env=usual_environment() if environment is None else environment,
                )
            except subprocess.TimeoutExpired:
                return _LATE, ()
            return str(done.returncode).encode(), ()

        answer, _ = from_inside(pid, kinds, work)
        if answer == _LATE:
            raise TimeoutError(f"{argv[0]} has not ended in time")
        return Ended(int(answer), *(_whole(fd) for fd in outputs[1:]))
    finally:
        for fd in outputs:
            os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _whole(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read()
