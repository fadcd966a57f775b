"""Upstart's names where scripts look for them: one script, and links to it.

All names stand in one directory that a node's PATH has first, so `shutdown` is this init's also
where the root has another one. In `/sbin`, for scripts that say `/sbin/initctl`, only names are
made that are not there, and only where that can be written to. On Debian 12 `systemd-sysv`, where
installed, has `halt`, `init`, `poweroff`, `reboot`, `runlevel`, `shutdown` and `telinit` in
`/sbin`; without it, as in most containers, none of these exists. The others are Upstart's alone,
which Debian has not had since version 9. So a job that says `/sbin/shutdown` in a root with
`systemd-sysv` gets systemd's, which finds no systemd; one that says `shutdown` gets this one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Final

from hostlab.init.initctl.programs import INITCTL, NAMES
from hostlab.init.initctl.script import DEFAULT_BIN, DEFAULT_DIRECTORY, script

O_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def install(
    directory: str = DEFAULT_BIN,
    also: str | None = "/sbin",
    *,
    requests: str = DEFAULT_DIRECTORY,
    names: Iterable[str] = NAMES,
) -> str:
    """Put the names there; what PATH must begin with.

    `requests` is the directory of the server. `also` is a node's own `/sbin`; beside another init,
    where it is the machine's, it must be None. OSError when `directory` cannot be written to.
    """
    os.makedirs(directory, mode=0o755, exist_ok=True)
    place = os.open(directory, O_DIRECTORY)
    try:
        _write(place, INITCTL, script(requests))
        for name in names:
            if name != INITCTL:
                _link(place, name, INITCTL)
    finally:
        os.close(place)
    if also is not None:
        _add(also, os.path.join(directory, INITCTL), names)
    return directory


def install_programs(directory: str, commands: Mapping[str, str]) -> None:
    """Programs of hostlab's that jobs can run, beside Upstart's names.

    By name, the shell command that starts each; OSError when `directory` cannot be written to.
    """
    place = os.open(directory, O_DIRECTORY)
    try:
        for name, command in commands.items():
            _write(place, name, f'#!/bin/sh\n{command} "$@"\n')
    finally:
        os.close(place)


def _write(place: int, name: str, text: str) -> None:
    """A program, written beside and then renamed, so that it is never half there."""
    made = f".{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        os.unlink(made, dir_fd=place)
    with os.fdopen(os.open(made, flags, 0o700, dir_fd=place), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o755)
    os.rename(made, name, src_dir_fd=place, dst_dir_fd=place)


def _link(place: int, name: str, target: str) -> None:
    """A symbolic link in place of whatever had the name."""
    with contextlib.suppress(OSError):
        if os.readlink(name, dir_fd=place) == target:
            return
    made = f".{name}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(made, dir_fd=place)
    os.symlink(target, made, dir_fd=place)
    os.rename(made, name, src_dir_fd=place, dst_dir_fd=place)


def _add(also: str, target: str, names: Iterable[str]) -> None:
    """Links in a directory of the root, for names that it lacks."""
    try:
        # `/sbin` is a link to `usr/sbin` in every recent root.
        place = os.open(also, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for name in names:
            with contextlib.suppress(OSError):
                os.symlink(target, name, dir_fd=place)
    finally:
        os.close(place)
