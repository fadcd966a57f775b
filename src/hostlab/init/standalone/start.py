"""How a stand-alone init is to run, and its start: from the command to the holder's own program.

The command claims the run directory, says what is wrong there, and makes what the init has of the
machine. Then it becomes the holder (`program`), which knows of all that only the numbers of some
descriptors: what the command has loaded to read its options would be the holder's for good.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from hostlab import typed
from hostlab.init.protocol import CONTROL, LOGS, listen
from hostlab.init.standalone.place import Grounds, bear, claim, make_grounds
from hostlab.init.standalone.program import PASSED_ON
from hostlab.spec.job import Console
from hostlab.spec.model import Units
from hostlab.spec.search import SYSTEM_DIRECTORIES, user_directories

MODULE: Final = "hostlab.init.standalone.program"
SYSTEM_LOGS: Final = "/var/log/upstart"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How an init is to run."""

    run_directory: str
    """Where its control socket is; made if it is not there."""
    log_directory: str
    directories: tuple[str, ...]
    """Of job files, the first that has a name's `.conf` owns it."""
    units: Units | None = None
    """systemd's units that it runs; None: none."""
    crontabs: tuple[str, ...] = ()
    """Tables of cron, and directories of them."""
    is_user: bool = False
    """A user's session: its jobs do not change to `/`, and have `UPSTART_SESSION`."""
    startup_event: str | None = "startup"
    """None emits nothing."""
    boots: bool = False
    """Emit what a host's boot does, as a node's init does; else `startup_event` alone."""
    mark: str = ""
    """Names its cgroup, and the memfd by which its processes are found; empty: neither."""
    inherits: bool = False
    """Its jobs have the environment that it was started with."""
    console: Console = Console.LOG
    """Of a job that says none."""
    logs: bool = True
    """False: `console log` is `console none`."""
    is_on_bus: bool = False
    """Answer as com.ubuntu.Upstart also where no job is a bus."""


def options(
    *,
    run_directory: str,
    is_user: bool,
    confdirs: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    behind: tuple[str, ...] = (),
    log_directory: str | None = None,
    inherits: bool | None = None,
    environment: Mapping[str, str] | None = None,
    **others: Any,
) -> Options:
    """What people usually want, where they said nothing else; `others` are Options' own.

    `confdirs` stand instead of the usual directories, `before` and `behind` beside them.
    """
    own = os.environ if environment is None else environment
    if log_directory is None and is_user:
        cache = own.get("XDG_CACHE_HOME") or f"{own.get('HOME', '/')}/.cache"
        log_directory = f"{cache}/upstart"
    usual = user_directories(own) if is_user else SYSTEM_DIRECTORIES
    boots = os.getpid() == 1
    return Options(
        run_directory=run_directory,
        log_directory=os.path.abspath(log_directory or SYSTEM_LOGS),
        directories=tuple(map(os.path.abspath, (*before, *(confdirs or usual), *behind))),
        is_user=is_user,
        boots=boots,
        inherits=is_user or boots if inherits is None else inherits,
        **others,
    )


class StandaloneParts(msgspec.Struct, frozen=True):
    """A stand-alone init's options and what it has of the machine."""

    options: Options
    state_dir: int
    cgroup: int | None = None
    v1: dict[str, int] = {}
    groups: tuple[str, ...] = ()
    unified: str | None = None

    @property
    def grounds(self) -> Grounds:
        """What it has of the machine."""
        return Grounds(self.state_dir, self.cgroup, self.v1, self.groups, self.unified)

    def descriptors(self) -> tuple[int, ...]:
        """Those that must stay open."""
        own = () if self.cgroup is None else (self.cgroup,)
        return (self.state_dir, *self.v1.values(), *own)


def parts_of(chosen: Options, grounds: Grounds) -> StandaloneParts:
    """Both, for another program."""
    return StandaloneParts(
        chosen, grounds.state_dir, grounds.cgroup, dict(grounds.v1), grounds.groups, grounds.unified
    )


def run(chosen: Options) -> NoReturn:
    """Be the init; never returns. UsageError when one runs there already."""
    state_dir = claim(chosen.run_directory)
    os.makedirs(chosen.log_directory, mode=0o755, exist_ok=True)
    passed = [bear(chosen.mark)] if chosen.mark else []
    grounds = make_grounds(state_dir, chosen.mark) if chosen.mark else Grounds(state_dir)
    _link(chosen.log_directory, f"{chosen.run_directory}/{LOGS}")
    control = listen(state_dir, CONTROL)
    parts = parts_of(chosen, grounds)
    told = _written(msgspec.json.encode(parts))
    numbers = [told, control.detach(), *parts.descriptors(), *passed]
    for fd in numbers:
        os.set_inheritable(fd, True)  # noqa: FBT003  (has no name for it)
    # What comes in between is kept for the holder (sigprocmask(2)), which would end of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    os.execv(sys.executable, [sys.executable, "-P", "-m", MODULE, *map(str, numbers)])


def _written(data: bytes) -> int:
    """A memfd with this content."""
    fd = os.memfd_create("hostlab init", os.MFD_CLOEXEC)
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
    return fd


def told_parts(told: int) -> StandaloneParts:
    """What `run` has written."""
    data = os.pread(told, os.fstat(told).st_size, 0)
    return typed.decode(data, StandaloneParts)


def _link(target: str, path: str) -> None:
    """Whoever asks this init finds the logs where those of a node are."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(target, path)
