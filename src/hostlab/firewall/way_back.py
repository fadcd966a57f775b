"""The way back: a job of an init of its own, armed before the first change.

It hangs on no terminal, no session and no connection. Its supervisor and the job itself may be
killed: the holder starts them again. When even the holder is killed, the next command that looks
at the firewall finds the change under way and nobody who would take it back, and does it itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import Final, assert_never

import msgspec

from hostlab import typed
from hostlab.errors import Failed
from hostlab.firewall import applying
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Phase, boottime
from hostlab.lab.paths import BASE_VARIABLE
from hostlab.linux.inotify import IN_MOVED_TO, Inotify
from hostlab.linux.pidfd import has_ended
from hostlab.linux.procfs import command_line, start_time, stat
from hostlab.linux.timerfd import CLOCK_BOOTTIME, TimerFd
from hostlab.linux.whole_files import write_whole

ARMED_WITHIN_S: Final = 60.0
AGAIN_S: Final = 5.0
"""Between two attempts to bring the old ruleset back, where one has failed."""
STANDS: Final = "way-back"
"""The file that the job writes when it stands: which process it is."""
HOLDER: Final = "holder"
"""The file that names the init's holder."""
JOB: Final = """\
description "takes a change of the firewall back unless it is confirmed"
start on startup
respawn
respawn limit unlimited
normal exit 0
env {variable}={base}
exec {python} -P -m hostlab.cli.main firewall revert --when-due
"""


class ProcessName(msgspec.Struct, frozen=True):
    """A process, told from a later one of the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessName:
        """One that is there."""
        return cls(pid, start_time(pid) or "")

    def is_there(self) -> bool:
        """Whether that very process lives, and is not a zombie."""
        found = stat(self.pid)
        return found is not None and found.started == self.started and not found.has_ended


def arm(place: ChangeDirectory, change: FirewallChange) -> None:
    """Start the init whose job is the way back, and wait until the job stands.

    The change's file is written first; Failed where the job does not come up, with nothing changed.
    """
    place.write(change)
    base = os.path.dirname(place.path)
    jobs, log = f"{place.path}/jobs", f"{place.path}/log"
    os.makedirs(jobs, mode=0o700, exist_ok=True)
    os.makedirs(log, mode=0o700, exist_ok=True)
    text = JOB.format(python=sys.executable, variable=BASE_VARIABLE, base=base)
    write_whole(f"{jobs}/way-back.conf", text.encode(), mode=0o600, is_synced=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{place.path}/{STANDS}")
    notify = Inotify()
    try:
        notify.add(place.path, IN_MOVED_TO)
        holder = _start_init(place, jobs, log)
        _wait_for(place, notify, holder)
    finally:
        notify.close()


def _start_init(place: ChangeDirectory, jobs: str, log: str) -> int:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (BASE_VARIABLE, applying.DIES_AT) and not name.startswith("SSH_")
    }
    environment[BASE_VARIABLE] = f"{place.path}/init"
    words = [sys.executable, "-P", "-m", "hostlab.cli.main", "init"]
    words += ["--confdir", jobs, "--logdir", log, "--inherit-env"]
    out = f"{log}/init.log"
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    pid = os.posix_spawn(
        words[0], words, environment, file_actions=actions, setsid=True, setsigmask=()
    )
    _write_name(place, HOLDER, pid)
    return pid


def _write_name(place: ChangeDirectory, name: str, pid: int) -> None:
    write_whole(
        f"{place.path}/{name}", msgspec.json.encode(ProcessName.of(pid)), mode=0o600, is_synced=True
    )


def _name_holder(place: ChangeDirectory) -> None:
    """For the job: its maker may have been killed before it had written down whom it started."""
    pid = os.getpid()
    while (found := stat(pid)) is not None and found.parent > 0:
        pid = found.parent
        if f"{place.path}/jobs" in (command_line(pid) or ""):
            holder = pid
            above = stat(holder)
            if above is None or f"{place.path}/jobs" not in (command_line(above.parent) or ""):
                _write_name(place, HOLDER, holder)
                return


def _wait_for(place: ChangeDirectory, notify: Inotify, holder: int) -> None:
    pidfd = os.pidfd_open(holder)
    deadline = boottime() + ARMED_WITHIN_S
    try:
        while not stands(place):
            left = deadline - boottime()
            watched = [notify.fileno(), pidfd]
            ready = select.select(watched, [], [], max(0.0, left))[0]
            if notify.fileno() in ready:
                notify.discard()
            elif pidfd in ready or left <= 0:
                raise Failed(
                    "way-back",
                    "the way back does not come up; nothing was changed",
                    hint=f"{place.path}/log says why",
                )
    finally:
        os.close(pidfd)


def stands(place: ChangeDirectory) -> bool:
    """Whether somebody is there who takes the change back when it is due."""
    return _named(place, STANDS) is not None


def _named(place: ChangeDirectory, name: str) -> ProcessName | None:
    """The process that a file names, if it lives."""
    try:
        with open(f"{place.path}/{name}", "rb") as file:
            found = typed.decode(file.read(), ProcessName)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if found.is_there() else None


def is_kept(place: ChangeDirectory) -> bool:
    """Whether the way back stands, or its init lives and will start it again."""
    return stands(place) or _named(place, HOLDER) is not None


def keep_watch(place: ChangeDirectory) -> FirewallChange | None:
    """What the job does: wait until the change is confirmed, or take it back when it is due.

    It is due at its deadline, and at once when its maker has died before it had loaded.
    """
    with contextlib.ExitStack() as stack:
        notify, timer = Inotify(), TimerFd(CLOCK_BOOTTIME)
        stack.callback(notify.close)
        stack.callback(os.close, timer.fd)
        notify.add(place.path, IN_MOVED_TO)
        _name_holder(place)
        _write_name(place, STANDS, os.getpid())
        again = 0.0
        while True:
            change = place.read()
            if change is None or change.has_ended:
                return change
            if is_due(change) and boottime() >= again:
                change = applying.take_back(place, unless=lambda found: not is_due(found))
                if change is None or change.phase is not Phase.STUCK:
                    continue
                again = boottime() + AGAIN_S
            timer.set(max(again, change.deadline) if not is_due(change) else again)
            _wait(notify, timer, change)


def is_due(change: FirewallChange) -> bool:
    """Whether a change must be taken back now."""
    match change.phase:
        case Phase.CONFIRMED | Phase.REVERTED:
            return False
        case Phase.STUCK:
            return True
        case Phase.ARMED | Phase.LOADING:
            return boottime() >= change.deadline or not change.maker.is_there()
        case Phase.LOADED:
            return boottime() >= change.deadline
    assert_never(change.phase)


def _wait(notify: Inotify, timer: TimerFd, change: FirewallChange) -> None:
    """Until the change goes on, its time is over, or its maker has died."""
    watched: list[int] = [notify.fileno(), timer.fileno()]
    pidfd = None
    if change.phase in (Phase.ARMED, Phase.LOADING) and change.maker.is_there():
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(change.maker.pid)
            watched.append(pidfd)
    try:
        select.select(watched, [], [])
    finally:
        if pidfd is not None:
            os.close(pidfd)
    notify.discard()
    timer.read()


def dismiss(place: ChangeDirectory) -> None:
    """End the init of the way back, whose work is done, and wait for its end."""
    holder = _named(place, HOLDER)
    if holder is None:
        return
    try:
        pidfd = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return
    try:
        if not holder.is_there():
            return
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if os.getppid() != holder.pid:
            has_ended(pidfd, within_s=ARMED_WITHIN_S)
    finally:
        os.close(pidfd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(holder.pid, os.WNOHANG)
