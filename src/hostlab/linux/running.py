"""A program of this machine in the namespaces of another process, with its input and its output.

What goes in and comes out lies in memfds: of any size, and the program never waits for a reader.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple, NoReturn, Self

from hostlab.linux.clone import clone3
from hostlab.linux.entering import enter_namespaces
from hostlab.linux.pidfd import has_ended

SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""A plain user's PATH lacks them."""


class Ended(NamedTuple):
    """How a program ended; a number below zero is that of a signal."""

    returncode: int
    stdout: bytes
    stderr: bytes


def usual_environment() -> dict[str, str]:
    """This process' own, with the places of the administrator's tools and messages in English."""
    return {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}", "LC_ALL": "C"}


class Running:
    """A program that was started: `wait` for its end; leaving the `with` block kills it."""

    def __init__(self, name: str, child: tuple[int, int], trouble: int, files: Sequence[int]):
        self.name = name
        self._pid, self._pidfd = child
        self._trouble = trouble
        self._files = files
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._has_ended:
            self._end()
        for fd in (self._pidfd, self._trouble, *self._files):
            os.close(fd)

    def wait(self, timeout_s: float | None = None) -> Ended:
        """How it ended, and what it wrote; errors as of `run_inside`."""
        if not has_ended(self._pidfd, within_s=timeout_s):
            raise TimeoutError(f"{self.name} has not ended in time")
        returncode = self._reap()
        if number := os.read(self._trouble, 16):
            raise OSError(int(number), os.strerror(int(number)), self.name)
        return Ended(returncode, *(_whole(fd) for fd in self._files[1:]))

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._reap()

    def _reap(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        self._has_ended = True
        return os.waitstatus_to_exitcode(status)


def start_inside(
    pid: int,
    kinds: Sequence[str],
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Running:
    """Start a program in namespaces of process `pid`, as who runs this; ESRCH if that is gone."""
    environment = usual_environment() if environment is None else environment
    with ExitStack() as stack:
        pidfd = os.pidfd_open(pid)
        stack.callback(os.close, pidfd)
        with ExitStack() as kept:
            files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("in", "out", "err")]
            for fd in files:
                kept.callback(os.close, fd)
            _write_all(files[0], stdin)
            os.lseek(files[0], 0, os.SEEK_SET)
            trouble, theirs = os.pipe2(os.O_CLOEXEC)
            kept.callback(os.close, trouble)
            stack.callback(os.close, theirs)
            child = clone3(0)
            if child[0] == 0:
                try:
                    enter_namespaces(pid, pidfd, kinds)
                    _become(argv, environment, files)
                except OSError as error:
                    os.write(theirs, b"%d" % (error.errno or errno.EIO))
                finally:
                    os._exit(127)
            kept.pop_all()
    return Running(argv[0], child, trouble, files)


def _become(argv: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> NoReturn:
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    # Python ignores it, and what is ignored stays ignored over execve(2).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(argv[0], list(argv), environment)


def run_inside(
    pid: int,
    kinds: Sequence[str],
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Start a program in namespaces of process `pid`, and wait for it.

    FileNotFoundError when there is no such program, TimeoutError when it is late, else OSError as
    of `enter_namespaces`: EPERM for who does not own the namespaces.
    """
    with start_inside(pid, kinds, argv, stdin=stdin, environment=environment) as running:
        return running.wait(timeout_s)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _whole(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read()
