"""From what a job says to run to an argument vector (init/job_process.c, job_process_start())."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from hostlab.jobs.expression import NO_ENVIRONMENT
from hostlab.spec.job import Process
from hostlab.spec.systemd.environment import expand_word

SHELL = "/bin/sh"
SHELL_CHARACTERS = frozenset("~`!$^&*()=|\\{}[];\"'<>?")
"""Any of these in an `exec` line gives it to a shell."""


class Command(msgspec.Struct, frozen=True):
    """What `execve` is given."""

    argv: tuple[str, ...]
    script: str | None = None
    """Text for the shell to read from a descriptor, whose path goes behind `argv`."""


def command(process: Process, environment: Mapping[str, str] = NO_ENVIRONMENT) -> Command:
    """How a process is started; `environment` is for the variables of a unit's commands.

    A script of one line goes on the command line. A longer one goes through a descriptor, so
    that it is not bounded by the length of an argument.
    """
    if process.commands:
        return _commands(process, environment)
    if process.argv:
        return Command(process.argv)
    if process.script is not None:
        return _shell(process.script)
    text = process.exec or ""
    if SHELL_CHARACTERS.isdisjoint(text):
        return Command(tuple(text.split()))
    # `exec` makes the shell get out of the way: the pid is the program's.
    return _shell(f"exec {text}")


def _commands(process: Process, environment: Mapping[str, str]) -> Command:
    """A unit's commands: one alone is executed, several become a script of quoted words.

    The shell expands nothing, since every word of the script is quoted. The last command takes
    the shell's place, unless its failure is to be nothing.
    """
    lines = []
    for number, each in enumerate(process.commands, 1):
        words = [
            part
            for word in each.argv
            for part in (expand_word(word, environment) if each.expand else (word,))
        ]
        is_last = number == len(process.commands)
        if is_last and number == 1 and not each.ignore_failure:
            return Command(tuple(words))
        line = " ".join(shlex.quote(word) for word in words)
        if is_last and not each.ignore_failure:
            lines.append(f"exec {line}")
            continue
        # A name without a slash could be a builtin of the shell.
        line = line if "/" in words[0] else f"env {line}"
        lines.append(f"{line} || :" if each.ignore_failure else line)
    return _shell("\n".join(lines))


def _shell(script: str) -> Command:
    line, newline, rest = script.partition("\n")
    if newline and rest.strip("\n"):
        return Command((SHELL, "-e"), script)
    return Command((SHELL, "-e", "-c", line, SHELL))
