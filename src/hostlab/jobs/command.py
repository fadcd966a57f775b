"""From what a job says to run to an argument vector (init/job_process.c, job_process_start())."""

from __future__ import annotations

import msgspec

from hostlab.spec.job import Process

SHELL = "/bin/sh"
SHELL_CHARACTERS = frozenset("~`!$^&*()=|\\{}[];\"'<>?")
"""Any of these in an `exec` line gives it to a shell."""


class Command(msgspec.Struct, frozen=True):
    """What `execve` is given."""

    argv: tuple[str, ...]
    script: str | None = None
    """Text for the shell to read from a descriptor, whose path goes behind `argv`."""


def command(process: Process) -> Command:
    """How a process is started.

    A script of one line goes on the command line. A longer one goes through a descriptor, so
    that it is not bounded by the length of an argument.
    """
    if process.argv:
        return Command(process.argv)
    if process.script is not None:
        return _shell(process.script)
    text = process.exec or ""
    if SHELL_CHARACTERS.isdisjoint(text):
        return Command(tuple(text.split()))
    # `exec` makes the shell get out of the way: the pid is the program's.
    return _shell(f"exec {text}")


def _shell(script: str) -> Command:
    line, newline, rest = script.partition("\n")
    if newline and rest.strip("\n"):
        return Command((SHELL, "-e"), script)
    return Command((SHELL, "-e", "-c", line, SHELL))
