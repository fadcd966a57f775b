"""What a stand-alone init has of the machine, and that nothing of it stays.

One directory, locked as long as its holder lives; below hostlab's own cgroup one that bears the
directory's mark, with all that its jobs are; for a user's session the file by which
`initctl list-sessions` finds it. An init that was killed leaves jobs that nobody looks after: the
next one in the same directory ends them, as it can take over neither their statuses nor their logs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Mapping
from typing import Final

import msgspec

from hostlab.errors import Failed, UsageError
from hostlab.linux import cgroups

MARK_PREFIX: Final = "hostlab:"
"""Begins the name of the memfd that each process of hostlab's holds; see `lab.remains`."""
ENDED_WITHIN_S: Final = 10.0
"""For killed processes to be gone."""
SESSIONS: Final = "upstart/sessions"
"""In XDG_RUNTIME_DIR; a file PID.session for each (init/xdg.c)."""
SESSION_SUFFIX: Final = ".session"
VARIABLE: Final = "UPSTART_SESSION"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Grounds(msgspec.Struct, frozen=True):
    """Descriptors that live as long as the holder, and the paths of what must go at the end."""

    state_dir: int
    """The run directory, with the lock."""
    cgroup: int | None = None
    """Of v2; None where there is none to be had."""
    v1: Mapping[str, int] = msgspec.field(default_factory=dict)
    groups: tuple[str, ...] = ()
    """Paths of the cgroups."""
    unified: str | None = None
    """The one of v2 among them."""


def claim(path: str) -> int:
    """The run directory, locked; UsageError when another init has it (flock(2))."""
    while True:
        os.makedirs(path, mode=0o700, exist_ok=True)
        try:
            fd = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except BlockingIOError:
            os.close(fd)
            message = f"an init runs already in {path}"
            raise UsageError(
                "init-runs", message, hint="`hostlab job list --init` asks it"
            ) from None
        except FileNotFoundError:
            # The one before it has just taken its directory away.
            pass
        os.close(fd)


def bear(mark: str) -> int:
    """Have this process, and what is forked of it, be known as an init's by whoever audits.

    The memfd is kept open for good. A program that follows by `execve` is given it, or does the
    same again.
    """
    return os.memfd_create(f"{MARK_PREFIX}{mark}")


def own_groups(mark: str) -> tuple[str | None, dict[str, str]]:
    """Where the cgroups of this mark are or would be: of v2, and of v1 by their controllers."""
    found = cgroups.find()
    unified = f"{found.unified}/{cgroups.TREE}/{mark}" if found.unified else None
    return unified, {
        name: f"{found.v1[name]}/{cgroups.TREE}/{mark}"
        for name in cgroups.CONTROLLERS
        if name in found.v1
    }


def make_grounds(state_dir: int, mark: str) -> Grounds:
    """Make the cgroups, as far as that can be; what an earlier init left in them is ended first."""
    unified, v1 = own_groups(mark)
    groups = tuple(path for path in (unified, *v1.values()) if path is not None)
    end_groups(groups, unified)
    opened = {path: _made(path) for path in groups}
    directory = opened.get(unified) if unified is not None else None
    if unified is not None and not v1:
        above = os.path.dirname(unified)
        for parent in (os.path.dirname(above), above):
            cgroups.enable(parent, cgroups.CONTROLLERS)
    found = {name: fd for name, path in v1.items() if (fd := opened[path]) is not None}
    return Grounds(state_dir, directory, found, groups, unified)


def _made(path: str) -> int | None:
    """A cgroup, made and opened; None where that is refused, and its jobs go without."""
    try:
        cgroups.make(path)
        return os.open(path, _DIRECTORY)
    except OSError:
        return None


def end_groups(groups: tuple[str, ...], unified: str | None) -> None:
    """Kill whatever is in the cgroups of an init, and remove them; Failed when that cannot be."""
    if unified is not None and os.path.isdir(unified):
        with contextlib.suppress(OSError):
            cgroups.write(f"{unified}/cgroup.kill", "1")
        fd = os.open(unified, _DIRECTORY)
        try:
            is_empty = cgroups.wait_empty(fd, timeout_s=ENDED_WITHIN_S)
        finally:
            os.close(fd)
        if not is_empty:
            left = sorted(cgroups.processes(unified))
            hint = "one in uninterruptible sleep ends with what it waits for: `ps -o stat,wchan`"
            raise Failed("processes", f"processes of an earlier init do not end: {left}", hint=hint)
    for path in groups:
        with contextlib.suppress(OSError):
            cgroups.remove(path)
        with contextlib.suppress(OSError):
            # hostlab's own, when this was the last in it.
            os.rmdir(os.path.dirname(path))


def remove_run_directory(path: str) -> None:
    """Take the run directory away, and the one above when it was the last in that."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def lasting_directory(
    run_directory: str, environment: Mapping[str, str], *, is_user: bool
) -> str | None:
    """Where an init in this run directory remembers what is to outlive it.

    Below `$HOSTLAB_STATE`, `/var/lib/hostlab`, or a user's `$XDG_STATE_HOME/hostlab`; None for a
    user who has no home.
    """
    name = run_directory.strip("/").replace("/", "-")
    own = environment.get("HOSTLAB_STATE")
    if own is None and is_user:
        home = environment.get("HOME")
        state = environment.get("XDG_STATE_HOME") or (home and f"{home}/.local/state")
        own = state and f"{state}/hostlab"
    elif own is None:
        own = "/var/lib/hostlab"
    return f"{own}/{name}" if own else None


def stamp_directory(environment: Mapping[str, str], *, is_user: bool) -> str | None:
    """Where systemd notes when its persistent timers came last (systemd.timer(5))."""
    if not is_user:
        return "/var/lib/systemd/timers"
    home = environment.get("HOME")
    data = environment.get("XDG_DATA_HOME") or (home and f"{home}/.local/share")
    return f"{data}/systemd/timers" if data else None


def session_file(runtime: str | None, pid: int) -> str | None:
    """Where a session is written down; None for a user without XDG_RUNTIME_DIR."""
    if not runtime or not runtime.startswith("/"):
        return None
    return f"{runtime}/{SESSIONS}/{pid}{SESSION_SUFFIX}"


def write_session(path: str, address: str) -> None:
    """Tell `initctl list-sessions` of a session."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(f"{VARIABLE}={address}\n")
    os.rename(f"{path}.new", path)


def sessions(runtime: str | None) -> tuple[tuple[int, str], ...]:
    """Every session of a user whose init lives: its pid and its UPSTART_SESSION.

    Files of those that have ended are taken away, as `initctl` did (util/initctl.c).
    """
    if not runtime:
        return ()
    directory = f"{runtime}/{SESSIONS}"
    found = []
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return ()
    for name in names:
        number = name.removesuffix(SESSION_SUFFIX)
        if not number.isdecimal() or name == number:
            continue
        with contextlib.suppress(OSError):
            if not os.path.isdir(f"/proc/{number}"):
                os.unlink(f"{directory}/{name}")
                continue
            with open(f"{directory}/{name}", errors="replace") as file:
                key, _, address = file.readline().rstrip("\n").partition("=")
            if key == VARIABLE:
                found.append((int(number), address))
    return tuple(found)
